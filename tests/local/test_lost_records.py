"""`farm up` over an embedded Redis whose file is gone: it takes no work and says so until told to go on."""

from __future__ import annotations

from tests.integration.local_farm import LocalFarm
from tests.local.test_up import ONE_CARD, records, until
from tests.local.test_up import farm as farm  # The fixture.


def test_a_farm_whose_records_are_gone_takes_no_work_until_it_is_told_to(farm: LocalFarm) -> None:
    farm.run("up", *ONE_CARD)
    farm.run("down")
    (farm.home / "redis" / "records" / "appendonly.aof").unlink()
    up = farm.run("up", *ONE_CARD, check=3)
    assert up.stderr.startswith("farm: up, but it takes no work: Redis at unix://")
    assert "is empty, but held the records of farm" in up.stderr
    assert "no work is taken: Redis at" in (farm.home / "logs" / "up.log").read_text()
    assert "`farm adopt`" in farm.run("status", check=3).stderr
    assert "epoch 2" in farm.run("adopt").stderr
    found = records(farm)
    until(farm, lambda: [card["health"] for card in found.cards()] == ["good"], 30, "good card")
    found.client.close()
    assert "no campaign yet" in farm.run("status").stdout
