"""Which cards are rung for a run that not every card may take."""

from __future__ import annotations

from farm.domain.states import after_failure
from farm.records import Records
from tests.records import scene


def rung(records: Records) -> list[str]:
    return [queue for queue in records.fleet.ring() if queue.startswith("device.")]


def test_a_run_that_failed_on_a_card_rings_another(records: Records) -> None:
    scene.submit(records, scene.job())
    worker, first = scene.cpu(records), scene.card(records, 0)
    scene.until_run(records, worker)
    claim = scene.must_claim(records, first, "run", "device.0")
    verdict = after_failure("card", {}, [])
    records.claims.ended(claim.stage, claim.token, verdict, error="hang", card="device.0")
    assert rung(records) == []
    scene.card(records, 1)
    assert rung(records) == ["device.1"]


def test_a_run_too_big_for_the_first_card_rings_the_bigger_one(records: Records) -> None:
    scene.submit(records, scene.job(cores=16, instances=1))
    worker = scene.cpu(records)
    scene.card(records, 0, nsp=14)
    scene.until_run(records, worker)
    assert rung(records) == []
    scene.card(records, 1, nsp=16)
    assert rung(records) == ["device.1"]


def test_a_run_bound_to_a_card_rings_that_card_alone(records: Records) -> None:
    scene.submit(records, scene.job(devices=("device.1",)))
    worker = scene.cpu(records)
    scene.card(records, 0)
    scene.until_run(records, worker)
    assert rung(records) == []
    scene.card(records, 1)
    assert rung(records) == ["device.1"]


def test_each_run_rings_one_card(records: Records) -> None:
    scene.submit(records, scene.job(), scene.job(seconds=10))
    worker = scene.cpu(records)
    for qid in range(4):
        scene.card(records, qid)
    scene.until_run(records, worker)
    assert rung(records) == ["device.0", "device.1"]
    assert rung(records) == [], "two bells are on their way already"


def test_many_ready_runs_ring_every_idle_card(records: Records) -> None:
    scene.submit(records, *(scene.job(repeat=n) for n in range(150)))
    worker = scene.cpu(records)
    for qid in range(3):
        scene.card(records, qid)
    scene.until_run(records, worker)
    assert rung(records) == ["device.0", "device.1", "device.2"]
