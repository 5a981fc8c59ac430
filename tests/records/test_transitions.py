"""A stage's way through the records: claims, fences, leases, builds, failures, cancel and retry."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from farm.domain.errors import BadInput
from farm.domain.states import FINAL, TRANSITIONS, IllegalTransition, after_failure
from farm.records import Records
from farm.records.claims import Probe
from tests.records import scene


def test_the_time_left_follows_the_pace_once_there_is_one(records: Records) -> None:
    campaign = scene.submit(records, *(scene.job(f"m{n}") for n in range(6)))
    worker, card = scene.cpu(records), scene.card(records)
    assert records.status(campaign)["eta_s"] is None, "exports are to come, nothing tells how long they take"
    scene.until_run(records, worker)
    for _ in range(5):
        scene.do(records, worker, "reference")
        scene.do(records, card, "run", "device.0")
    for _ in range(4):
        scene.do(records, worker, "compare")
        records.client.hincrby(f"farm:c:{campaign}", "last_end", -60_000)
    assert 2 * 60 <= records.status(campaign)["eta_s"] < 2 * 61
    ended = next(job["job"] for job in records.jobs(campaign) if job["state"] == "done")
    assert records.retry([ended], failed_only=False) == 1
    assert records.status(campaign)["eta_s"] is None, "a pace of yesterday tells nothing of today"


def test_a_job_goes_from_export_to_compare(records: Records) -> None:
    campaign = scene.submit(records, scene.job())
    worker, card = scene.cpu(records), scene.card(records)
    assert records.status(campaign)["state"] == "waiting"
    scene.do(records, worker, "export")
    scene.do(records, worker, "compile")
    run = scene.do(records, card, "run", "device.0")
    assert run.job == scene.job()
    assert set(run.inputs) == {"export", "compile"}
    assert records.status(campaign)["jobs"]["running"] == 1
    scene.do(records, worker, "reference")
    scene.do(records, worker, "compare")
    status = records.status(campaign)
    assert (status["state"], status["jobs"]["done"], status["eta_s"]) == ("done", 1, 0.0)
    scene.check_counters(records, [campaign])


def test_a_repeated_claim_gives_the_first_answer(records: Records) -> None:
    scene.submit(records, scene.job(), scene.job("bert-base-uncased"))
    worker = scene.cpu(records)
    first = records.claims.claim(worker, "export", "export", "same")
    again = records.claims.claim(worker, "export", "export", "same")
    assert first == again
    assert scene.claim(records, worker, "export") is None, "a busy worker claims nothing"


def test_a_repeated_finish_is_told_apart_from_a_late_one(records: Records) -> None:
    campaign = scene.submit(records, scene.job())
    worker = scene.cpu(records)
    claim = scene.must_claim(records, worker, "export")
    assert records.claims.done(claim.stage, claim.token, {"key": "k"}) == "ok"
    assert records.claims.done(claim.stage, claim.token, {"key": "k"}) == "again"
    assert records.claims.done(claim.stage, "another token", {"key": "x"}) == "late"
    assert records.status(campaign)["stages"]["compile"]["ready"] == 1
    scene.check_counters(records, [campaign])


def test_a_lapsed_lease_makes_the_stage_claimable_and_the_late_finish_counts_until_then(
    records: Records,
) -> None:
    campaign = scene.submit(records, scene.job())
    worker, other = scene.cpu(records), scene.cpu(records, "other")
    claim = scene.must_claim(records, worker, "export")
    scene.advance(records, 14)
    assert records.fleet.tick("test") == []
    scene.advance(records, 2)
    assert records.fleet.tick("test") == [claim.stage]
    token, failures = records.claims.fence(claim.stage)
    assert records.claims.lost(claim.stage, token, failures, error="lost", lapsed=True) == "ok"
    assert records.claims.done(claim.stage, claim.token, {"key": "late but first"}) == "ok"
    assert scene.claim(records, other, "export") is None
    assert records.status(campaign)["stages"]["export"]["done"] == 1
    scene.check_counters(records, [campaign])


def test_after_a_later_claim_the_old_token_is_refused(records: Records) -> None:
    campaign = scene.submit(records, scene.job())
    worker, other = scene.cpu(records), scene.cpu(records, "other")
    old = scene.must_claim(records, worker, "export")
    scene.advance(records, 16)
    records.fleet.tick("test")
    verdict = after_failure("host", {}, [])
    records.claims.ended(old.stage, old.token, verdict, error="lost", lapsed=True)
    scene.advance(records, verdict.delay_s + 1)
    records.fleet.tick("test")
    new = scene.must_claim(records, other, "export")
    assert new.attempt == old.attempt + 1
    assert new.failures == {"host": 1}
    assert records.claims.done(old.stage, old.token, {"key": "old"}) == "late"
    assert records.claims.renew(old.stage, old.token, worker) == "lost"
    assert records.claims.done(new.stage, new.token, {"key": "new"}) == "ok"
    scene.check_counters(records, [campaign])


def test_a_renewed_lease_does_not_lapse(records: Records) -> None:
    scene.submit(records, scene.job())
    worker = scene.cpu(records)
    claim = scene.must_claim(records, worker, "export")
    for _ in range(5):
        scene.advance(records, 10)
        assert records.claims.renew(claim.stage, claim.token, worker) == "ok"
        assert records.fleet.tick("test") == []


def test_the_farm_clock_ignores_time_nobody_ticked(records: Records) -> None:
    records.fleet.tick("one")
    before = int(records.client.hget("farm:meta", "clock") or 0)
    wall = int(records.client.hget("farm:meta", "wall") or 0)
    records.client.hset("farm:meta", "wall", wall - 3_600_000)
    records.fleet.tick("two")
    assert int(records.client.hget("farm:meta", "clock") or 0) - before <= 1000


def test_the_same_artifact_is_built_once_and_the_other_campaign_waits_for_it(records: Records) -> None:
    first, second = scene.submit(records, scene.job()), scene.submit(records, scene.job())
    a, b = scene.cpu(records, "a"), scene.cpu(records, "b")
    mine, theirs = scene.must_claim(records, a, "export"), scene.must_claim(records, b, "export")
    assert records.claims.build(mine, "export-x") == "build"
    assert records.claims.build(mine, "export-x") == "build", "asking again changes nothing"
    assert records.claims.build(theirs, "export-x") == "wait"
    assert scene.claim(records, b, "export") is None
    records.claims.done(mine.stage, mine.token, {"key": "export-x"})
    again = scene.must_claim(records, b, "export")
    assert again.stage == theirs.stage
    assert records.claims.build(again, "export-x") == "present"
    scene.check_counters(records, [first, second])


def test_a_failed_build_frees_the_artifact_for_the_next(records: Records) -> None:
    scene.submit(records, scene.job()), scene.submit(records, scene.job())
    a, b = scene.cpu(records, "a"), scene.cpu(records, "b")
    mine, theirs = scene.must_claim(records, a, "export"), scene.must_claim(records, b, "export")
    records.claims.build(mine, "export-x")
    records.claims.build(theirs, "export-x")
    records.claims.ended(mine.stage, mine.token, after_failure("input", {}, []), error="bad model")
    again = scene.must_claim(records, b, "export")
    assert again.campaign == theirs.campaign
    assert records.claims.build(again, "export-x") == "build"


def test_a_failed_export_blocks_what_needs_it_and_nothing_else(records: Records) -> None:
    campaign = scene.submit(records, scene.job(), scene.job("bert-base-uncased"))
    worker = scene.cpu(records)
    claim = scene.must_claim(records, worker, "export")
    records.claims.ended(
        claim.stage, claim.token, after_failure("input", {}, []), error="no such model", log="x.log"
    )
    status = records.status(campaign)
    assert status["jobs"] == {"total": 2, "waiting": 1, "running": 0, "done": 0, "failed": 1, "cancelled": 0}
    failed = next(job for job in records.jobs(campaign) if job["state"] == "failed")
    assert (failed["error_kind"], failed["error"]) == ("input", "export: no such model")
    scene.check_counters(records, [campaign])


def test_a_failed_reference_flags_the_result_and_keeps_the_number(records: Records) -> None:
    campaign = scene.submit(records, scene.job())
    worker, card = scene.cpu(records), scene.card(records)
    scene.until_run(records, worker)
    scene.do(records, card, "run", "device.0")
    claim = scene.must_claim(records, worker, "reference")
    records.claims.ended(claim.stage, claim.token, after_failure("input", {}, []), error="out of memory")
    assert records.status(campaign)["state"] == "done"
    assert records.results(campaign)[0]["flags"] == ["reference_failed"]
    scene.check_counters(records, [campaign])


def test_a_failure_of_the_host_is_retried_after_a_pause_and_no_more_than_three_times(
    records: Records,
) -> None:
    campaign = scene.submit(records, scene.job())
    worker = scene.cpu(records)
    for n in range(3):
        claim = scene.must_claim(records, worker, "export")
        assert claim.attempt == n + 1
        verdict = after_failure("host", claim.failures, claim.cards_failed)
        records.claims.ended(claim.stage, claim.token, verdict, error="disk full")
        assert scene.claim(records, worker, "export") is None
        scene.advance(records, 60)
        records.fleet.tick("test")
    assert records.status(campaign)["state"] == "failed"
    job = records.job(f"{campaign}.1")
    assert [e["outcome"] for e in job["history"]] == ["failed"] * 3
    assert {e["error"] for e in job["history"]} == {"disk full"}


def test_a_run_never_returns_to_a_card_it_failed_on(records: Records) -> None:
    scene.submit(records, scene.job())
    worker, zero = scene.cpu(records), scene.card(records, 0)
    one = scene.card(records, 1)
    scene.until_run(records, worker)
    claim = scene.must_claim(records, zero, "run", "device.0")
    verdict = after_failure("card", claim.failures, claim.cards_failed)
    records.claims.ended(claim.stage, claim.token, verdict, error="hang", card="device.0")
    assert scene.claim(records, zero, "run", "device.0") is None
    assert scene.must_claim(records, one, "run", "device.1").cards_failed == ("device.0",)


def test_cancel_while_running_frees_the_worker_and_refuses_the_late_result(records: Records) -> None:
    campaign = scene.submit(records, scene.job())
    worker, card = scene.cpu(records), scene.card(records)
    scene.until_run(records, worker)
    claim = scene.must_claim(records, card, "run", "device.0")
    records.claims.running(claim.stage, claim.token)
    assert records.cancel([campaign]) == 1
    assert records.claims.renew(claim.stage, claim.token, card) == "cancelled"
    assert records.claims.done(claim.stage, claim.token, {}) == "late"
    [entry] = [e for e in records.job(records.jobs(campaign)[0]["job"])["history"] if e["stage"] == "run"]
    assert (entry["outcome"], entry["late"]) == ("cancelled", "done"), "the loser is kept as a note"
    assert records.status(campaign)["state"] == "cancelled"
    assert records.cards()[0]["state"] == "idle"
    scene.check_counters(records, [campaign])


def test_a_lapsed_attempts_late_result_is_refused_and_kept_as_a_note(records: Records) -> None:
    campaign = scene.submit(records, scene.job())
    old, new = scene.cpu(records, "old"), scene.cpu(records, "new")
    claim = scene.must_claim(records, old, "export")
    scene.advance(records, 16)
    assert records.claims.lost(claim.stage, claim.token, {}, error="gone", lapsed=True) == "ok"
    again = scene.must_claim(records, new, "export")
    assert records.claims.done(claim.stage, claim.token, {"key": "late"}) == "late"
    assert records.claims.ended(claim.stage, claim.token, after_failure("host", {}, []), error="x") == "late"
    assert records.claims.done(again.stage, again.token, {"key": "right"}) == "ok"
    history = [e for e in records.job(records.jobs(campaign)[0]["job"])["history"] if e["stage"] == "export"]
    assert [(e["outcome"], e.get("late")) for e in history] == [("lease lapsed", "done"), ("done", None)]
    assert not any("token" in entry for entry in history)


def test_cancelling_one_job_leaves_what_another_needs(records: Records) -> None:
    campaign = scene.submit(records, scene.job(), scene.job(cores=1))
    worker = scene.cpu(records)
    assert records.cancel([f"{campaign}.1"]) == 1
    scene.do(records, worker, "export")
    assert records.status(campaign)["jobs"]["waiting"] == 1
    stages = records.status(campaign)["stages"]
    assert (stages["compile"]["cancelled"], stages["compile"]["ready"]) == (1, 1)
    scene.check_counters(records, [campaign])


def test_an_unproved_card_is_probed_before_it_gets_work(records: Records) -> None:
    scene.submit(records, scene.job())
    worker, card = scene.cpu(records), scene.card(records, good=False)
    scene.until_run(records, worker)
    assert isinstance(records.claims.claim(card, "device.0", "run", "p"), Probe)
    assert records.claims.claim(card, "device.0", "run", "q") is None, "one probe at a time"
    records.fleet.set_health("device.0", "good")
    assert scene.claim(records, card, "run", "device.0") is not None


def test_a_quarantined_or_drained_card_gets_nothing(records: Records) -> None:
    scene.submit(records, scene.job())
    worker, card = scene.cpu(records), scene.card(records)
    scene.until_run(records, worker)
    records.drain("0")
    assert scene.claim(records, card, "run", "device.0") is None
    assert records.cards()[0]["state"] == "drained"
    records.resume("0")
    records.fleet.set_health("device.0", "quarantined", "golden run failed", strikes=3, again_s=60)
    assert scene.claim(records, card, "run", "device.0") is None
    scene.advance(records, 61)
    assert isinstance(records.claims.claim(card, "device.0", "run", "again"), Probe)


def test_another_card_behind_the_queue_starts_unproved(records: Records) -> None:
    scene.card(records)
    assert records.fleet.report_card("device.0", {"nsp_total": 14, "pci_address": "0000:00:00.0"}) == "good"
    assert (
        records.fleet.report_card("device.0", {"nsp_total": 14, "pci_address": "0000:99:00.0"}) == "unknown"
    )


def test_a_queue_that_another_machine_serves_is_refused_until_its_workers_are_gone(records: Records) -> None:
    facts = {"nsp_total": 14, "pci_address": "0000:00:00.0", "node": "one", "boot": "a"}
    worker = scene.card(records)
    records.fleet.report_card("device.0", facts)
    assert records.fleet.report_card("device.0", {**facts, "node": "container"}) == "good"
    with pytest.raises(BadInput, match=r"served by workers of another machine \(container\).*FARM_NODE"):
        records.fleet.report_card("device.0", {**facts, "node": "two", "boot": "b"})
    assert records.cards()[0]["node"] == "container"
    records.fleet.leave(worker)
    records.fleet.report_card("device.0", {**facts, "boot": "b"})


def test_unknown_names_are_refused_with_the_way_out(records: Records) -> None:
    with pytest.raises(BadInput, match="no campaign has been submitted"):
        records.status()
    scene.submit(records, scene.job())
    with pytest.raises(BadInput, match="'nope' is not a campaign; `farm campaigns`"):
        records.status("nope")
    with pytest.raises(BadInput, match=r"'x\.1' is not a job"):
        records.cancel(["x.1"])


def test_the_scripts_know_the_state_machine_of_the_domain() -> None:
    text = (files("farm.records") / "lua" / "prelude.lua").read_text()
    block = re.search(r"local MAY = \{\n(.*?)\n\}", text, re.S)
    assert block is not None
    may = {
        state: frozenset(re.findall(r"(\w+) = true", nexts))
        for state, nexts in re.findall(r"(\w+) = \{(.*?)\}", block[1])
    }
    assert may == {state: nexts for state, nexts in TRANSITIONS.items() if nexts}
    assert frozenset(re.findall(r"(\w+) = true", text.split("local FINAL = ")[1].split("}")[0])) == FINAL


def test_an_illegal_transition_is_refused_with_the_stages_history(records: Records) -> None:
    scene.submit(records, scene.job())
    done = scene.do(records, scene.cpu(records), "export")
    records.client.hset(f"farm:s:{done.stage}", mapping={"settled": "", "state": "waiting"})
    records.client.zadd("farm:ready:export:" + done.campaign, {done.stage: 1})
    records.client.zadd("farm:ready:export", {done.campaign: 0})
    with pytest.raises(IllegalTransition, match="claimed may not follow done -> waiting"):
        scene.claim(records, scene.cpu(records, "other"), "export")


def lose(records: Records, worker: str) -> str:
    """Claim an export and lose its worker; the stage's state after that."""
    claim = scene.must_claim(records, worker, "export")
    assert records.claims.lost(claim.stage, claim.token, claim.failures, error="died") == "ok"
    state: str = records.client.hget(f"farm:s:{claim.stage}", "state")
    return state


def test_a_stage_that_alone_loses_its_workers_is_given_up_at_the_third(records: Records) -> None:
    scene.submit(records, scene.job())
    worker = scene.cpu(records)
    assert [lose(records, worker) for _ in range(3)] == ["ready", "ready", "failed"]


def test_where_workers_die_all_around_no_stage_is_blamed_for_it(records: Records) -> None:
    campaign = scene.submit(records, scene.job("a"), scene.job("b"))
    worker = scene.cpu(records)
    for _ in range(4):
        first = scene.must_claim(records, worker, "export")
        assert records.claims.lost(first.stage, first.token, first.failures, error="died") == "ok"
        second = scene.must_claim(records, worker, "export")
        records.client.zadd("farm:losses", {f"{campaign}/another": 10**12})
        assert records.claims.lost(second.stage, second.token, second.failures, error="died") == "ok"
    assert records.status(campaign)["jobs"]["failed"] == 0


def test_losses_of_long_ago_excuse_nobody(records: Records) -> None:
    scene.submit(records, scene.job("a"))
    worker = scene.cpu(records)
    lose(records, worker)
    scene.do(records, worker, "export")
    scene.advance(records, 61)
    scene.submit(records, scene.job("b"))
    assert [lose(records, worker) for _ in range(3)] == ["ready", "ready", "failed"]
