"""A farm that is to start nothing new."""

from __future__ import annotations

import pytest

from farm.domain.errors import FarmError
from farm.records import Records
from tests.records import scene


def test_while_the_farm_is_halted_nothing_is_rung_claimed_or_recorded_and_what_runs_is_settled(
    records: Records,
) -> None:
    campaign = scene.submit(records, scene.job(), scene.job("bert-base-uncased"))
    worker, other = scene.cpu(records), scene.cpu(records, "other")
    claim = scene.must_claim(records, worker, "export")
    records.fleet.halt("no room")
    assert records.fleet.ring() == []
    assert scene.claim(records, other, "export") is None
    with pytest.raises(FarmError, match="nothing is recorded now: no room"):
        scene.submit(records, scene.job())
    assert records.claims.renew(claim.stage, claim.token, worker) == "ok"
    assert records.claims.done(claim.stage, claim.token, {"key": "k"}) == "ok"
    assert records.status(campaign)["halted"] == "no room"
    records.fleet.halt(None)
    assert records.fleet.ring() != []
    assert scene.claim(records, other, "export") is not None
    scene.check_counters(records, [campaign])
