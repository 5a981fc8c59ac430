"""Counters that were spoiled are repaired and counted; those of a farm at work are right and left alone."""

from __future__ import annotations

import logging

import pytest

from farm.bells import Bells, make_app
from farm.coordinator import Coordinator
from farm.domain.states import after_failure
from farm.records import Records, keys
from tests.records import scene
from tests.redis_server import RedisProcess


def recount(records: Records) -> list[str]:
    """One look at everything, as an idle coordinator takes it."""
    again = Records(records.client).recount
    return [text for _ in range(20) for text in again.step()]


def spoil(records: Records, campaign: str) -> None:
    records.client.hincrby(keys.campaign(campaign), "s:run:ready", 3)
    records.client.hincrby(keys.campaign(campaign), "j:done", -1)
    records.client.hset(keys.campaign(campaign), "expected_done", 1e6)
    records.client.hincrby(keys.META, "stored", 77)


def a_campaign_with_a_history(records: Records) -> str:
    """Done, failed and repaired stages; a job done, one failed, one waiting; nothing claimed."""
    campaign = scene.submit(records, scene.job(), scene.job("b"), scene.job("b", cores=1))
    worker, card = scene.cpu(records), scene.card(records)
    failed = scene.must_claim(records, worker, "export")
    records.claims.ended(failed.stage, failed.token, after_failure("input", {}, []), error="no such model")
    export = scene.must_claim(records, worker, "export")
    assert records.claims.build(export, "export-b") == "build"
    records.claims.done(export.stage, export.token, {"key": "export-b", "bytes": 1000})
    reference = scene.must_claim(records, worker, "reference")
    assert records.claims.repair(reference, "export", "export-b", "gone") == "wait"
    scene.do(records, worker, "export")
    scene.do(records, worker, "reference")
    scene.do(records, worker, "compile")
    scene.do(records, card, "run", "device.0")
    return campaign


def test_counters_of_a_campaign_that_went_through_everything_are_right(records: Records) -> None:
    campaign = a_campaign_with_a_history(records)
    scene.check_counters(records, [campaign])
    assert recount(records) == []
    assert records.recount.drift() == 0


def test_an_idle_coordinator_repairs_logs_and_counts_what_drifted(
    records: Records, redis_process: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    campaign, other = a_campaign_with_a_history(records), scene.submit(records, scene.job("c"))
    for worker in ("cpu", "card-0"):
        records.fleet.leave(worker)
    before = records.status(campaign)
    stored = records.artifacts.stored()
    spoil(records, campaign)
    coordinator = Coordinator(records, Bells(make_app(redis_process.url)))
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            assert coordinator.step() == 0
    assert records.status(campaign) == before
    assert records.artifacts.stored() == stored
    assert records.recount.drift() == len(caplog.messages) == 4
    assert f"{campaign} s:run:ready: 3, is 0" in caplog.text
    scene.check_counters(records, [campaign, other])


def test_nothing_is_recounted_while_a_stage_is_claimed(records: Records) -> None:
    campaign = scene.submit(records, scene.job())
    claim = scene.must_claim(records, scene.cpu(records), "export")
    spoil(records, campaign)
    assert recount(records) == []
    records.claims.hand_back(claim.stage, claim.token, {}, "stopped")
    assert len(recount(records)) == 4


def test_a_campaign_that_changes_while_it_is_counted_is_counted_again(records: Records) -> None:
    campaign = scene.submit(records, scene.job())
    steps = Records(records.client).recount
    assert steps.step() == [], "the store"
    assert steps.step() == [], "the jobs were read"
    scene.do(records, scene.cpu(records), "export")
    assert [text for _ in range(5) for text in steps.step()] == []
    assert recount(records) == []
    scene.check_counters(records, [campaign])
