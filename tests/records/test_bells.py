"""Which cards are rung for a run that not every card may take."""

from __future__ import annotations

from farm.domain.states import after_failure
from farm.records import Records, keys
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


def lose_bells(records: Records, *queues: str) -> None:
    """As if the bells of these queues had been under way for too long, when the next are rung."""
    for queue in queues:
        records.client.hincrby("farm:bells:at", queue, -6000)
    for worker in records.client.zrange(keys.WORKERS, 0, -1):
        records.client.hincrby(keys.worker(worker), "missed_at", -6000)
    records.fleet.ring()


def test_a_lost_bell_counts_against_the_idle_workers_of_its_queue(records: Records) -> None:
    scene.submit(records, scene.job(), scene.job("bert-base-uncased"))
    busy, idle, other = scene.cpu(records, "busy"), scene.cpu(records, "idle"), scene.card(records, 0)
    scene.must_claim(records, busy, "export")
    assert records.fleet.ring() == ["export"]
    lose_bells(records, "export")
    lose_bells(records, "export")
    assert [records.fleet.beat(worker) for worker in (busy, idle, other)] == [0, 10, 0]


def test_a_worker_that_answers_has_missed_nothing(records: Records) -> None:
    scene.submit(records, scene.job())
    one, two = scene.cpu(records, "one"), scene.cpu(records, "two")
    assert records.fleet.ring() == ["export"]
    lose_bells(records, "export")
    scene.must_claim(records, one, "export")
    assert [records.fleet.beat(worker) for worker in (one, two)] == [0, 5]
    assert scene.claim(records, two, "export") is None, "it finds nothing, but it came"
    assert records.fleet.beat(two) == 0


def test_bells_of_two_queues_that_are_lost_at_once_count_once(records: Records) -> None:
    scene.submit(records, scene.job(), scene.job("bert-base-uncased"))
    first, second = scene.cpu(records, "first"), scene.cpu(records, "second")
    scene.do(records, first, "export")
    assert sorted(records.fleet.ring()) == ["compile", "reference"]
    lose_bells(records, "compile", "reference")
    assert [records.fleet.beat(worker) for worker in (first, second)] == [5, 5]


def test_a_bell_that_could_not_be_delivered_is_rung_again_and_missed_by_nobody(records: Records) -> None:
    scene.submit(records, scene.job())
    worker = scene.cpu(records)
    for _ in range(3):
        rung = records.fleet.ring()
        assert rung == ["export"]
        records.fleet.unring(rung)
        lose_bells(records, "export")
        records.fleet.unring(["export"])
    assert records.fleet.beat(worker) == 0
