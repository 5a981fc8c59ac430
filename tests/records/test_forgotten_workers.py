"""A worker that was silent for too long is forgotten, and is welcome back with what it still does."""

from __future__ import annotations

from farm.domain.states import after_failure
from farm.records import Records
from farm.records.claims import Probe
from tests.records import scene


def test_a_forgotten_worker_takes_its_lapsed_stage_up_again(records: Records) -> None:
    campaign = scene.submit(records, scene.job())
    worker = scene.cpu(records)
    claim = scene.must_claim(records, worker, "export")
    scene.advance(records, 20, beating=False)
    assert records.fleet.tick("test") == [claim.stage]
    verdict = after_failure("host", {}, [])
    records.claims.ended(claim.stage, claim.token, verdict, error="silent", lapsed=True)
    assert records.fleet.workers() == []
    assert records.claims.renew(claim.stage, claim.token, worker) == "ok"
    assert records.fleet.workers() == [], "nothing is known of it yet but its name"
    assert records.fleet.beat(worker) is None, "so it registers again"
    records.fleet.register(worker, scene.CPU, node="host", pid=1, stage=claim.stage)
    assert records.claims.done(claim.stage, claim.token, {"key": "k"}) == "ok"
    assert [(w["worker"], w["state"]) for w in records.fleet.workers()] == [(worker, "idle")]
    scene.check_counters(records, [campaign])


def test_a_forgotten_worker_whose_stage_another_has_is_free(records: Records) -> None:
    scene.submit(records, scene.job())
    worker = scene.cpu(records)
    claim = scene.must_claim(records, worker, "export")
    scene.advance(records, 20, beating=False)
    records.fleet.tick("test")
    verdict = after_failure("host", {}, [])
    records.claims.ended(claim.stage, claim.token, verdict, error="silent", lapsed=True)
    scene.advance(records, 3)
    records.fleet.tick("test")
    other = scene.cpu(records, "other")
    scene.must_claim(records, other, "export")
    records.fleet.register(worker, scene.CPU, node="host", pid=1, stage=claim.stage)
    assert {w["worker"]: w["state"] for w in records.fleet.workers()} == {worker: "idle", other: "busy"}
    assert [records.fleet.stage_of(name) for name in (worker, other)] == [None, claim.stage]


def test_a_forgotten_worker_may_finish_before_it_registers_again(records: Records) -> None:
    scene.submit(records, scene.job())
    worker = scene.cpu(records)
    claim = scene.must_claim(records, worker, "export")
    scene.advance(records, 12, beating=False)
    records.fleet.tick("test")
    assert records.claims.renew(claim.stage, claim.token, worker) == "ok"
    assert records.claims.done(claim.stage, claim.token, {"key": "k"}) == "ok"


def test_a_forgotten_worker_whose_stage_is_anothers_is_idle_when_it_registers_again(records: Records) -> None:
    scene.submit(records, scene.job(), scene.job("bert-base-uncased"))
    worker, other = scene.cpu(records), scene.cpu(records, "other")
    claim = scene.must_claim(records, worker, "export")
    scene.advance(records, 20, beating=False)
    records.fleet.tick("test")
    verdict = after_failure("host", {}, [])
    records.claims.ended(claim.stage, claim.token, verdict, error="silent", lapsed=True)
    scene.advance(records, 10, beating=False)
    records.fleet.tick("test")
    records.fleet.register(other, scene.CPU, node="host", pid=2)
    scene.must_claim(records, other, "export")
    records.fleet.register(worker, scene.CPU, node="host", pid=1, stage=claim.stage)
    assert records.claims.done(claim.stage, claim.token, {"key": "k"}) == "late"
    assert scene.claim(records, worker, "export") is not None


def test_a_worker_that_dies_while_it_proves_a_card_leaves_the_card_to_the_next(records: Records) -> None:
    first, second = scene.card(records, good=False), scene.card(records, worker="second", good=False)
    assert isinstance(records.claims.claim(first, "device.0", "run", "a"), Probe)
    assert records.claims.claim(second, "device.0", "run", "b") is None
    records.fleet.leave(first)
    assert records.fleet.ring() == ["device.0"]
    assert isinstance(records.claims.claim(second, "device.0", "run", "c"), Probe)


def test_a_card_whose_prober_fell_silent_is_proved_by_the_next(records: Records) -> None:
    first, second = scene.card(records, good=False), scene.card(records, worker="second", good=False)
    assert isinstance(records.claims.claim(first, "device.0", "run", "a"), Probe)
    scene.advance(records, 6)
    records.fleet.beat(second)
    records.client.zadd("farm:workers", {first: 0})
    scene.advance(records, 5, beating=False)
    records.fleet.tick("test")
    assert [w["worker"] for w in records.fleet.workers()] == [second]
    assert isinstance(records.claims.claim(second, "device.0", "run", "b"), Probe)


def test_a_keeper_that_names_a_finished_attempt_registers_an_idle_worker(records: Records) -> None:
    """It was silent, its worker finished meanwhile, and the keeper has not heard of that yet."""
    scene.submit(records, scene.job(), scene.job("bert-base-uncased"))
    worker = scene.cpu(records)
    claim = scene.must_claim(records, worker, "export")
    scene.advance(records, 12, beating=False)
    records.fleet.tick("test")
    assert records.claims.done(claim.stage, claim.token, {"key": "k"}) == "ok"
    records.fleet.register(worker, scene.CPU, node="host", pid=1, stage=claim.stage)
    assert [(w["state"], w.get("stage")) for w in records.fleet.workers()] == [("idle", None)]
    assert scene.claim(records, worker, "export") is not None


def test_a_worker_that_registers_twice_keeps_what_it_claimed(records: Records) -> None:
    scene.submit(records, scene.job(), scene.job("bert-base-uncased"))
    worker = scene.cpu(records)
    claim = scene.must_claim(records, worker, "export")
    scene.cpu(records)
    assert [(w["state"], w.get("stage")) for w in records.fleet.workers()] == [("busy", claim.stage)]
    assert scene.claim(records, worker, "export") is None
