"""Whose word counts: an attempt that is over has none, one whose lease lapsed has it until the next claim."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from farm.domain.states import after_failure
from farm.records import Records
from farm.records.claims import Claim
from tests.records import scene


def lapse(records: Records, claim: Claim) -> None:
    """As a coordinator that finds the lease lapsed."""
    scene.advance(records, 16)
    assert records.fleet.tick("test") == [claim.stage]
    ready = replace(after_failure("host", {}, []), delay_s=0.0)
    assert records.claims.ended(claim.stage, claim.token, ready, error="lapsed", lapsed=True) == "ok"


def hand_back(records: Records, claim: Claim) -> None:
    assert records.claims.hand_back(claim.stage, claim.token, {}, "worker stopped") == "ok"


def fail(records: Records, claim: Claim) -> None:
    verdict = after_failure("host", {}, [])
    assert records.claims.ended(claim.stage, claim.token, verdict, error="disk full") == "ok"


def park(records: Records, claim: Claim) -> None:
    """Its artifact is built by another, who ends at once."""
    other = scene.must_claim(records, scene.cpu(records, "other"), "export")
    assert records.claims.build(other, "export-x") == "build"
    assert records.claims.build(claim, "export-x") == "wait"
    assert records.claims.done(other.stage, other.token, {"key": "export-x"}) == "ok"


@pytest.mark.parametrize("end", [hand_back, fail, park])
def test_a_keeper_that_renews_after_the_end_does_not_claim_again(
    records: Records, end: Callable[[Records, Claim], None]
) -> None:
    """The keeper guards until its worker says that the attempt is over: it may renew in between."""
    scene.submit(records, scene.job()), scene.submit(records, scene.job())
    worker = scene.cpu(records)
    claim = scene.must_claim(records, worker, "export")
    end(records, claim)
    assert records.client.hget(f"farm:s:{claim.stage}", "state") == "ready"
    assert records.claims.renew(claim.stage, claim.token, worker) == "lost"
    assert records.client.zcard("farm:leases") == 0


def test_who_is_refused_for_its_lapsed_lease_does_not_claim_again(records: Records) -> None:
    """The worker wakes before its keeper renews, is refused and gives up."""
    scene.submit(records, scene.job())
    worker = scene.cpu(records)
    claim = scene.must_claim(records, worker, "export")
    lapse(records, claim)
    assert records.claims.build(claim, "export-x") == "lost"
    assert records.claims.renew(claim.stage, claim.token, worker) == "lost"
    assert scene.must_claim(records, worker, "export").attempt == 2


def test_a_run_whose_lease_lapsed_holds_its_card_again(records: Records) -> None:
    scene.submit(records, scene.job())
    card = scene.card(records)
    scene.until_run(records, scene.cpu(records))
    claim = scene.must_claim(records, card, "run", "device.0")
    records.claims.running(claim.stage, claim.token)
    lapse(records, claim)
    assert not records.fleet.in_use("device.0")
    assert records.claims.renew(claim.stage, claim.token, card) == "ok"
    assert records.fleet.in_use("device.0"), "else the next run takes it for a stranger's"
    assert records.cards()[0]["state"] == "running"


def test_a_prepared_run_whose_lease_lapsed_may_be_taken_over_again(records: Records) -> None:
    scene.submit(records, scene.job(seconds=50), scene.job(seconds=5))
    first, second = scene.card(records, 0, worker="first"), scene.card(records, 0, worker="second")
    scene.until_run(records, scene.cpu(records))
    running = scene.must_claim(records, first, "run", "device.0")
    records.claims.running(running.stage, running.token)
    claim = scene.must_claim(records, second, "run", "device.0")
    records.claims.renew(running.stage, running.token, first)
    scene.advance(records, 14)
    records.claims.renew(running.stage, running.token, first)
    scene.advance(records, 2)
    records.claims.renew(running.stage, running.token, first)
    assert records.fleet.tick("test") == [claim.stage]
    ready = after_failure("busy", {}, [])
    records.claims.ended(claim.stage, claim.token, ready, error="lapsed", lapsed=True)
    assert records.claims.renew(claim.stage, claim.token, second) == "ok"
    idle = scene.card(records, 1)
    assert scene.must_claim(records, idle, "run", "device.1").stage == claim.stage


def test_a_build_whose_lease_lapsed_goes_on_alone(records: Records) -> None:
    scene.submit(records, scene.job()), scene.submit(records, scene.job())
    worker, other = scene.cpu(records), scene.cpu(records, "other")
    claim = scene.must_claim(records, worker, "export")
    assert records.claims.build(claim, "export-x") == "build"
    lapse(records, claim)
    assert records.claims.renew(claim.stage, claim.token, worker) == "ok"
    theirs = scene.must_claim(records, other, "export")
    assert records.claims.build(theirs, "export-x") == "wait"


def test_what_a_lapsed_attempt_made_is_known_and_kept_for_those_who_read_it(records: Records) -> None:
    scene.submit(records, scene.job())
    worker = scene.cpu(records)
    claim = scene.must_claim(records, worker, "export")
    assert records.claims.build(claim, "export-x") == "build"
    lapse(records, claim)
    assert records.claims.done(claim.stage, claim.token, {"key": "export-x", "bytes": 100}) == "ok"
    assert records.artifacts.stored() == 100
    assert records.artifacts.condemn(["export-x"]) == [], "the compile has not read it"


def test_what_a_lapsed_attempt_made_beside_another_builder_is_kept_too(records: Records) -> None:
    first, second = scene.submit(records, scene.job()), scene.submit(records, scene.job())
    worker, other = scene.cpu(records), scene.cpu(records, "other")
    claim = scene.must_claim(records, worker, "export")
    assert records.claims.build(claim, "export-x") == "build"
    lapse(records, claim)
    theirs = scene.must_claim(records, other, "export")
    assert theirs.campaign != claim.campaign, "campaigns take turns"
    assert records.claims.build(theirs, "export-x") == "build"
    assert records.claims.done(claim.stage, claim.token, {"key": "export-x", "bytes": 100}) == "ok"
    assert records.claims.done(theirs.stage, theirs.token, {"key": "export-x", "bytes": 100}) == "ok"
    records.cancel([theirs.campaign])
    assert records.artifacts.condemn(["export-x"]) == []
    assert records.artifacts.stored() == 100
    scene.check_counters(records, [first, second])


def test_a_run_reads_what_was_there_while_its_export_is_made_again_for_another(records: Records) -> None:
    scene.submit(records, scene.job())
    worker, card = scene.cpu(records), scene.card(records)
    scene.until_run(records, worker)
    reference = scene.must_claim(records, worker, "reference")
    key = reference.inputs["export"]["key"]
    assert records.claims.repair(reference, "export", key, "gone") == "wait"
    run = scene.must_claim(records, card, "run", "device.0")
    assert run.inputs["export"]["key"] == key
    assert records.claims.repair(run, "export", key, "gone") == "wait"
    assert json.loads(records.client.hget(f"farm:s:{run.stage}", "needs"))[-1].endswith("~1"), (
        "one repair for both"
    )
