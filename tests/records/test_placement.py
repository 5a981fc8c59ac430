"""Which stage a worker gets, and which queues are rung."""

from __future__ import annotations

from farm.records import Records
from tests.records import scene


def test_the_longest_run_goes_first(records: Records) -> None:
    scene.submit(records, scene.job(seconds=5), scene.job(seconds=50), scene.job(seconds=20))
    worker, card = scene.cpu(records), scene.card(records)
    scene.until_run(records, worker)
    order = [scene.do(records, card, "run", "device.0").job for _ in range(3)]
    assert [job.seconds for job in order if job] == [50, 20, 5]


def test_cpu_stages_finish_the_first_model_first(records: Records) -> None:
    scene.submit(records, scene.job("a"), scene.job("b"))
    worker = scene.cpu(records)
    assert scene.do(records, worker, "export").ask["model"] == "a"
    assert scene.do(records, worker, "export").ask["model"] == "b"
    first = scene.do(records, worker, "compile")
    assert first.stage in records.client.hget("farm:s:" + first.stage, "needs") or first.inputs["export"]


def test_higher_priority_first_then_campaigns_in_turn(records: Records) -> None:
    low = scene.submit(records, *(scene.job(f"l{n}") for n in range(3)), priority=1)
    one = scene.submit(records, *(scene.job(f"a{n}") for n in range(2)), priority=5)
    two = scene.submit(records, *(scene.job(f"b{n}") for n in range(2)), priority=5)
    worker = scene.cpu(records)
    order = [scene.do(records, worker, "export").campaign for _ in range(7)]
    assert set(order[:2]) == {one, two}
    assert set(order[2:4]) == {one, two}
    assert order[4:] == [low] * 3


def test_waiting_raises_the_priority_a_step_each_half_hour(records: Records) -> None:
    low = scene.submit(records, scene.job("l"), priority=1)
    scene.advance(records, 2 * 30 * 60)
    high = scene.submit(records, scene.job("h"), priority=2)
    worker = scene.cpu(records)
    assert [scene.do(records, worker, "export").campaign for _ in range(2)] == [low, high]


def test_a_run_that_does_not_fit_the_card_is_left_for_another(records: Records) -> None:
    scene.submit(records, scene.job(cores=14, instances=1, seconds=60), scene.job(cores=4, instances=3))
    worker = scene.cpu(records)
    small, big = scene.card(records, 0, nsp=12), scene.card(records, 1, nsp=14)
    scene.until_run(records, worker)
    got = scene.must_claim(records, small, "run", "device.0").job
    assert got is not None
    assert got.config.cores == 4
    got = scene.must_claim(records, big, "run", "device.1").job
    assert got is not None
    assert got.config.cores == 14


def test_a_campaign_bound_to_devices_goes_nowhere_else(records: Records) -> None:
    scene.submit(records, scene.job(devices=("device.1",)))
    worker, zero, one = scene.cpu(records), scene.card(records, 0), scene.card(records, 1)
    scene.until_run(records, worker)
    assert records.fleet.ring().count("device.0") == 0
    assert scene.claim(records, zero, "run", "device.0") is None
    assert scene.claim(records, one, "run", "device.1") is not None


def test_a_bell_is_rung_once_for_each_idle_worker_that_has_work(records: Records) -> None:
    scene.submit(records, scene.job("a"), scene.job("b"), scene.job("c"))
    scene.cpu(records, "one"), scene.cpu(records, "two")
    assert records.fleet.ring() == ["export", "export"]
    assert records.fleet.ring() == [], "no second bell while the first is unanswered"


def test_a_lost_bell_is_rung_again(records: Records) -> None:
    scene.submit(records, scene.job())
    scene.cpu(records)
    assert records.fleet.ring() == ["export"]
    records.client.hincrby("farm:bells:at", "export", -6000)
    assert records.fleet.ring() == ["export"]


def test_free_cards_are_rung_before_second_workers_of_busy_ones(records: Records) -> None:
    scene.submit(records, *(scene.job(seconds=n + 1) for n in range(3)))
    worker = scene.cpu(records)
    first, _ = scene.card(records, 0), scene.card(records, 0, worker="card-0-second")
    scene.card(records, 1)
    scene.until_run(records, worker)
    scene.must_claim(records, first, "run", "device.0")
    rung = [q for q in records.fleet.ring() if q.startswith("device")]
    assert rung == ["device.1", "device.0"]


def test_a_run_prepared_for_a_busy_card_is_taken_over_by_an_idle_one(records: Records) -> None:
    campaign = scene.submit(records, scene.job(seconds=60), scene.job(seconds=30))
    worker = scene.cpu(records)
    first, second = scene.card(records, 0), scene.card(records, 0, worker="second")
    scene.until_run(records, worker)
    running = scene.must_claim(records, first, "run", "device.0")
    assert records.claims.running(running.stage, running.token)
    prepared = scene.must_claim(records, second, "run", "device.0")
    other = scene.card(records, 1)
    assert "device.1" in records.fleet.ring()
    taken = scene.must_claim(records, other, "run", "device.1")
    assert taken.stage == prepared.stage
    assert taken.attempt == 2
    assert taken.failures == {}
    assert not records.claims.running(prepared.stage, prepared.token), "the fence keeps the first one out"
    assert records.claims.running(taken.stage, taken.token)
    scene.check_counters(records, [campaign])


def test_a_silent_worker_is_forgotten_and_can_come_back(records: Records) -> None:
    scene.submit(records, scene.job())
    worker = scene.cpu(records)
    scene.advance(records, 11, beating=False)
    records.fleet.tick("test")
    assert records.fleet.workers() == []
    assert records.fleet.ring() == []
    assert records.fleet.beat(worker) is None, "it is told to register again"
    scene.cpu(records)
    assert records.fleet.ring() == ["export"]


def test_a_stopping_worker_claims_nothing(records: Records) -> None:
    scene.submit(records, scene.job())
    worker = scene.cpu(records)
    records.fleet.stopping(worker)
    assert records.fleet.ring() == []
    assert scene.claim(records, worker, "export") is None


def test_of_idle_cards_the_one_that_was_idle_longest_is_rung(records: Records) -> None:
    """A card that did much before is not left out of a campaign that needs few."""
    worker = scene.cpu(records)
    zero, one = scene.card(records, 0), scene.card(records, 1)
    scene.submit(records, *(scene.job(f"m{n}") for n in range(3)))
    scene.until_run(records, worker)
    for card in (zero, zero, one):
        scene.do(records, card, "run", f"device.{card[-1]}")
    scene.submit(records, scene.job("next"))
    scene.until_run(records, worker)
    assert [queue for queue in records.fleet.ring() if queue.startswith("device.")] == ["device.0"]


def test_a_card_that_may_not_take_the_job_is_no_other_card(records: Records) -> None:
    for qid, nsp in ((0, 14), (1, 14), (2, 16)):
        scene.card(records, qid, nsp=nsp)
    assert records.fleet.cards_for(scene.job()) == {"device.0", "device.1", "device.2"}
    assert records.fleet.cards_for(scene.job(devices=("1",))) == {"device.1"}
    assert records.fleet.cards_for(scene.job(cores=16, instances=1)) == {"device.2"}
