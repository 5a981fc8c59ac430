"""The clock of Redis's host jumps by an hour: leases, pauses and bells follow the farm clock."""

from __future__ import annotations

import pytest

from farm.domain.states import after_failure
from farm.records import Records, keys
from tests.records import scene

HOUR_MS = 3_600_000


def jump(records: Records, milliseconds: int) -> None:
    """As if the time of day had jumped since the last tick: its note is that much away from now."""
    records.client.hincrby(keys.META, "wall", -milliseconds)


@pytest.mark.parametrize("by", [HOUR_MS, -HOUR_MS])
def test_no_lease_lapses_and_none_lasts_longer(records: Records, by: int) -> None:
    scene.submit(records, scene.job())
    claim = scene.must_claim(records, scene.cpu(records), "export")
    records.fleet.tick("test")
    jump(records, by)
    assert records.fleet.tick("test") == []
    assert records.claims.renew(claim.stage, claim.token, "cpu") == "ok"
    scene.advance(records, 16)
    assert records.fleet.tick("test") == [claim.stage], "a lease is 15 s of the farm clock"


@pytest.mark.parametrize("by", [HOUR_MS, -HOUR_MS])
def test_a_pause_ends_when_it_would_have(records: Records, by: int) -> None:
    scene.submit(records, scene.job())
    worker = scene.cpu(records)
    failed = scene.must_claim(records, worker, "export")
    records.fleet.tick("test")
    records.claims.ended(failed.stage, failed.token, after_failure("host", {}, []), error="disk full")
    jump(records, by)
    records.fleet.tick("test")
    assert scene.claim(records, worker, "export") is None
    scene.advance(records, 2)
    records.fleet.tick("test")
    assert scene.must_claim(records, worker, "export").stage == failed.stage


def test_a_bell_lost_before_the_jump_is_rung_again(records: Records) -> None:
    scene.submit(records, scene.job())
    scene.cpu(records)
    scene.advance(records, 60)
    assert records.fleet.ring() == ["export"]
    records.fleet.tick("test")
    jump(records, -HOUR_MS)
    assert records.fleet.ring() == []
    scene.advance(records, 6)
    assert records.fleet.ring() == ["export"]


def test_a_bell_that_was_rung_by_the_time_of_day_is_rung_again(records: Records) -> None:
    scene.submit(records, scene.job())
    scene.cpu(records)
    assert records.fleet.ring() == ["export"]
    records.client.hset("farm:bells:at", "export", 1_700_000_000_000)
    assert records.fleet.ring() == ["export"]
