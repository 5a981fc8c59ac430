"""The states of stages and campaigns, what may follow what, and what a failure leads to. Pure values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from farm.domain.errors import FailureKind

#: waiting: for other stages. ready: may be claimed. claimed: a worker has it. blocked: what it needs failed.
StageState = Literal["waiting", "ready", "claimed", "done", "failed", "blocked", "cancelled"]
CampaignState = Literal["waiting", "running", "done", "failed", "cancelled"]

STAGE_STATES: tuple[StageState, ...] = get_args(StageState)
#: Nothing follows these but a retry that the user asks for, which starts the stage over.
FINAL: frozenset[StageState] = frozenset({"done", "failed", "blocked", "cancelled"})

#: What may follow what. A claimed stage becomes waiting when another attempt already builds its artifact, or
#: when its input was lost and is made again. A ready one may be done or failed: its lease lapsed, and the
#: attempt reports before anybody claims it again.
TRANSITIONS: dict[StageState, frozenset[StageState]] = {
    "waiting": frozenset({"ready", "blocked", "cancelled"}),
    "ready": frozenset({"claimed", "done", "failed", "blocked", "cancelled"}),
    "claimed": frozenset({"ready", "waiting", "done", "failed", "cancelled"}),
    "done": frozenset(),
    "failed": frozenset(),
    "blocked": frozenset(),
    "cancelled": frozenset(),
}

#: Distinct cards a stage may fail on, and attempts a host may fail, before the stage is failed.
MOST_CARDS = 3
MOST_HOST_FAILURES = 3
#: Deaths of its worker, while no other stage lost one, before a stage is failed; and deaths in all.
MOST_LOSSES = 3
MOST_LOSSES_AMONG_OTHERS = 10
#: Cards that failed a job and then pass their probe, after which the job itself is to blame.
CLEARED_CARDS = 2

_BUSY_FIRST_S, _BUSY_MOST_S = 2.0, 30.0
_HOST_FIRST_S = 2.0


class IllegalTransition(Exception):
    """A stage was to enter a state that may not follow its own: a defect of the farm. Carries its history."""

    def __init__(self, stage: str, to: str, history: Sequence[str]) -> None:
        self.stage = stage
        self.to = to
        self.history = tuple(history)
        super().__init__(f"{stage}: {to} may not follow {' -> '.join(history)}")


def advance(stage: str, history: Sequence[StageState], to: StageState) -> tuple[StageState, ...]:
    """The history (oldest first, not empty) with `to` behind it. Raises IllegalTransition."""
    if to not in TRANSITIONS[history[-1]]:
        raise IllegalTransition(stage, to, history)
    return (*history, to)


@dataclass(frozen=True)
class Verdict:
    """What follows a failed attempt.

    state: `ready` for another attempt after delay_s seconds on the farm clock, or `failed` for good.
    counted: whether the failure counts against the stage. avoid_card: the stage must not come back to this
    card. strike: the card gets a strike if its golden run then fails. kind: who is to blame in the end.
    failures: failures by kind, this one included, to keep with the stage.
    """

    state: Literal["ready", "failed"]
    counted: bool
    delay_s: float
    avoid_card: bool
    strike: bool
    kind: FailureKind
    failures: Mapping[str, int]


def after_failure(
    kind: FailureKind,
    failures: Mapping[str, int],
    cards_failed: Sequence[str],
    cleared: Iterable[str] = (),
    elsewhere: bool = True,
) -> Verdict:
    """What follows an attempt that failed with `kind`.

    failures and cards_failed are the stage's earlier failures, by kind, and the cards they happened on,
    this one excluded (a stage never returns to a card it failed on). cleared: cards, this one included,
    that failed the stage and have passed their probe since. elsewhere: whether the farm has a card the
    stage has not failed on; where it has none, a cleared card leaves the job to blame, and a bad one is
    waited for.
    """
    nth = failures.get(kind, 0) + 1
    now = {**failures, kind: nth}
    if kind == "busy":
        delay = min(_BUSY_MOST_S, _BUSY_FIRST_S * 2 ** min(nth - 1, 10))
        return Verdict("ready", False, delay, False, False, kind, now)
    if kind == "card":
        passed = len(set(cleared))
        if passed >= CLEARED_CARDS or (passed and not elsewhere):
            return Verdict("failed", True, 0.0, True, False, "input", now)
        if not elsewhere:
            return Verdict("failed" if nth >= MOST_CARDS else "ready", True, 0.0, False, True, kind, now)
        exhausted = len(set(cards_failed)) + 1 >= MOST_CARDS
        return Verdict("failed" if exhausted else "ready", True, 0.0, True, True, kind, now)
    if kind == "host" and nth < MOST_HOST_FAILURES:
        return Verdict("ready", True, _HOST_FIRST_S * 4 ** (nth - 1), False, False, kind, now)
    return Verdict("failed", True, 0.0, False, False, kind, now)


def after_loss(failures: Mapping[str, int], among_others: bool) -> Verdict:
    """What follows an attempt whose worker, keeper or host died: ready again at once, the next is elsewhere.

    failures: the stage's earlier failures, by kind; `lost` counts such deaths, `lost_alone` those of them
    when no other stage had lost its worker lately (among_others). A stage that kills its workers is found
    out by the latter; where workers die all around, it is hardly to blame. From its second lonely death on
    the card is asked too (strike): it may be what kills them.
    """
    now = dict(failures)
    for kind in ("lost",) if among_others else ("lost", "lost_alone"):
        now[kind] = now.get(kind, 0) + 1
    strike = not among_others and now["lost_alone"] > 1
    spent = now.get("lost_alone", 0) >= MOST_LOSSES or now["lost"] >= MOST_LOSSES_AMONG_OTHERS
    return Verdict("failed" if spent else "ready", not among_others, 0.0, False, strike, "host", now)


def campaign_state(jobs: Mapping[str, int]) -> CampaignState:
    """A campaign's state from how many of its jobs are waiting, running, done, failed, cancelled.

    It is waiting until a first job leaves that state, running while any is open, and then the worst of
    its jobs' ends: failed, cancelled, done.
    """
    count = {state: jobs.get(state, 0) for state in get_args(CampaignState)}
    if count["running"] or (count["waiting"] and any(count[s] for s in ("done", "failed", "cancelled"))):
        return "running"
    if count["waiting"]:
        return "waiting"
    if count["failed"]:
        return "failed"
    return "cancelled" if count["cancelled"] else "done"
