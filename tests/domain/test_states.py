"""States: what may follow what, what a failure leads to, and the state of a campaign."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.domain.errors import FailureKind
from farm.domain.states import (
    FINAL,
    STAGE_STATES,
    TRANSITIONS,
    IllegalTransition,
    StageState,
    advance,
    after_failure,
    after_loss,
    campaign_state,
)

KINDS: tuple[FailureKind, ...] = get_args(FailureKind)


def test_nothing_follows_a_final_state_and_something_every_other() -> None:
    assert {state for state in STAGE_STATES if not TRANSITIONS[state]} == FINAL


def test_every_state_can_be_reached_and_left_for_done_or_an_end() -> None:
    reached: set[StageState] = {"waiting"}
    while more := {to for state in reached for to in TRANSITIONS[state]} - reached:
        reached |= more
    assert reached == set(STAGE_STATES)


def test_only_a_claimed_or_lapsed_stage_is_done() -> None:
    assert {state for state in STAGE_STATES if "done" in TRANSITIONS[state]} == {"claimed", "ready"}
    assert {state for state in STAGE_STATES if "claimed" in TRANSITIONS[state]} == {"ready"}
    assert {state for state in STAGE_STATES if "cancelled" in TRANSITIONS[state]} == set(STAGE_STATES) - FINAL


def test_an_illegal_transition_tells_the_history() -> None:
    with pytest.raises(IllegalTransition) as raised:
        advance("run-1", ("waiting", "ready", "claimed", "done"), "ready")
    assert raised.value.history == ("waiting", "ready", "claimed", "done")
    assert str(raised.value) == "run-1: ready may not follow waiting -> ready -> claimed -> done"


@given(st.lists(st.sampled_from(STAGE_STATES), max_size=12))
def test_a_history_holds_only_what_may_follow(wanted: list[StageState]) -> None:
    history: tuple[StageState, ...] = ("waiting",)
    for to in wanted:
        if to in TRANSITIONS[history[-1]]:
            history = advance("s", history, to)
        else:
            with pytest.raises(IllegalTransition):
                advance("s", history, to)
    assert not FINAL & set(history[:-1])


class TestFailure:
    def test_bad_input_fails_at_once(self) -> None:
        verdict = after_failure("input", {}, [])
        assert (verdict.state, verdict.avoid_card, verdict.strike) == ("failed", False, False)
        assert verdict.failures == {"input": 1}

    def test_busy_waits_without_count_or_blame(self) -> None:
        failures: dict[str, int] = {"host": 2}
        delays = []
        for _ in range(8):
            verdict = after_failure("busy", failures, ["0", "1"])
            assert (verdict.state, verdict.counted) == ("ready", False)
            assert (verdict.avoid_card, verdict.strike) == (False, False)
            failures = dict(verdict.failures)
            delays.append(verdict.delay_s)
        assert delays == [2, 4, 8, 16, 30, 30, 30, 30]
        assert failures == {"host": 2, "busy": 8}
        assert after_failure("busy", {"busy": 10**6}, []).delay_s == 30

    def test_a_card_s_failure_goes_to_another_card_and_fails_on_the_third(self) -> None:
        verdicts = [after_failure("card", {"card": n}, ["0", "1", "2"][:n]) for n in range(3)]
        assert [verdict.state for verdict in verdicts] == ["ready", "ready", "failed"]
        assert all(v.counted and v.avoid_card and v.strike and v.kind == "card" for v in verdicts)

    def test_the_job_is_to_blame_when_two_cards_pass_their_probe(self) -> None:
        assert after_failure("card", {"card": 1}, ["0"], cleared=["0"]).state == "ready"
        assert after_failure("card", {"card": 1}, ["0"], cleared=["0", "0"]).state == "ready"
        verdict = after_failure("card", {"card": 1}, ["0"], cleared=["0", "1"])
        assert (verdict.state, verdict.kind, verdict.strike) == ("failed", "input", False)

    def test_a_host_s_failure_is_tried_three_times_with_backoff(self) -> None:
        verdicts = [after_failure("host", {"host": n}, []) for n in range(3)]
        assert [(v.state, v.delay_s) for v in verdicts] == [("ready", 2), ("ready", 8), ("failed", 0)]
        assert not any(v.avoid_card or v.strike for v in verdicts)

    def test_kinds_are_counted_apart(self) -> None:
        assert after_failure("host", {"card": 2, "busy": 9}, ["0", "1"]).state == "ready"
        assert after_failure("card", {"host": 2, "busy": 9}, []).state == "ready"

    @given(st.lists(st.sampled_from(KINDS).filter(lambda kind: kind != "busy"), min_size=5, max_size=9))
    def test_every_stage_ends(self, kinds: list[FailureKind]) -> None:
        failures: dict[str, int] = {}
        cards: list[str] = []
        for attempt, kind in enumerate(kinds):
            verdict = after_failure(kind, failures, cards)
            failures = dict(verdict.failures)
            if verdict.avoid_card:
                cards.append(str(attempt))
            if verdict.state == "failed":
                return
        pytest.fail(f"still ready after {kinds}")


@given(st.lists(st.booleans(), max_size=30))
def test_a_stage_is_failed_at_the_third_death_that_nothing_else_explains_or_at_the_tenth(
    among_others: list[bool],
) -> None:
    failures: dict[str, int] = {}
    alone = 0
    for n, others in enumerate(among_others, start=1):
        verdict = after_loss(failures, others)
        failures = dict(verdict.failures)
        alone += not others
        assert verdict.state == ("failed" if alone >= 3 or n >= 10 else "ready")
        assert verdict.delay_s == 0
        assert verdict.strike == (not others and alone > 1), "the card is asked too"
        if verdict.state == "failed":
            return


@pytest.mark.parametrize(
    ("counters", "state"),
    [
        ({}, "done"),
        ({"waiting": 3}, "waiting"),
        ({"waiting": 3, "running": 1}, "running"),
        ({"waiting": 1, "done": 2}, "running"),
        ({"waiting": 1, "cancelled": 2}, "running"),
        ({"running": 1, "failed": 2}, "running"),
        ({"done": 3}, "done"),
        ({"done": 3, "failed": 1}, "failed"),
        ({"done": 3, "cancelled": 1}, "cancelled"),
        ({"done": 3, "cancelled": 1, "failed": 1}, "failed"),
    ],
)
def test_the_state_of_a_campaign(counters: dict[str, int], state: str) -> None:
    assert campaign_state(counters) == state
    assert campaign_state({"total": sum(counters.values()), **counters}) == state


def test_a_campaign_is_over_exactly_when_no_job_is_open() -> None:
    for waiting, running, done, failed in product((0, 1), repeat=4):
        state = campaign_state({"waiting": waiting, "running": running, "done": done, "failed": failed})
        assert (state in ("waiting", "running")) == bool(waiting or running)
