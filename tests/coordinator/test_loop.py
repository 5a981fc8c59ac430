"""A coordinator's passes over real records: the clock, lapsed leases, bells."""

from __future__ import annotations

from farm.bells import Bells, make_app
from farm.coordinator import Coordinator
from farm.records import Records, keys
from tests.records import scene
from tests.redis_server import RedisProcess


def coordinator(records: Records, url: str, name: str) -> Coordinator:
    return Coordinator(records, Bells(make_app(url)), name)


def test_a_pass_rings_the_queues_that_have_work_and_an_idle_worker(
    records: Records, redis_process: RedisProcess
) -> None:
    one = coordinator(records, redis_process.url, "one")
    scene.submit(records, scene.job(), scene.job("bert-base-uncased"))
    assert one.step() == 0
    scene.cpu(records)
    assert one.step() == 1
    assert records.client.llen("export") == 1
    assert one.step() == 0, "the bell is not answered yet"


def test_a_bell_that_is_never_answered_is_rung_again(records: Records, redis_process: RedisProcess) -> None:
    one = coordinator(records, redis_process.url, "one")
    scene.submit(records, scene.job())
    scene.cpu(records)
    assert one.step() == 1
    records.client.hincrby("farm:bells:at", "export", -6000)
    assert one.step() == 1


def test_two_coordinators_advance_one_clock(records: Records, redis_process: RedisProcess) -> None:
    pair = [coordinator(records, redis_process.url, name) for name in ("one", "two")]
    pair[0].step()
    clock = int(records.client.hget(keys.META, "clock"))
    wall = int(records.client.hget(keys.META, "wall"))
    for _ in range(10):
        for each in pair:
            each.step()
    assert (
        int(records.client.hget(keys.META, "clock")) - clock
        == int(records.client.hget(keys.META, "wall")) - wall
    )
    assert records.coordinator_alive()


def test_a_lapsed_stage_is_ready_and_rung_for_in_the_same_pass(
    records: Records, redis_process: RedisProcess
) -> None:
    one = coordinator(records, redis_process.url, "one")
    campaign = scene.submit(records, scene.job())
    gone, other = scene.cpu(records, "gone"), scene.cpu(records, "other")
    claim = scene.must_claim(records, gone, "export")
    scene.advance(records, 16, beating=False)
    records.fleet.register(other, scene.CPU, node="host", pid=1)
    assert one.step() == 1
    again = scene.must_claim(records, other, "export")
    assert (again.stage, again.attempt, dict(again.failures)) == (
        claim.stage,
        2,
        {"lost": 1, "lost_alone": 1},
    )
    assert [w["worker"] for w in records.fleet.workers()] == ["other"]
    scene.check_counters(records, [campaign])


def test_a_stage_whose_lease_lapses_each_time_fails_after_three_attempts(
    records: Records, redis_process: RedisProcess
) -> None:
    one = coordinator(records, redis_process.url, "one")
    campaign = scene.submit(records, scene.job())
    worker = scene.cpu(records)
    for _ in range(3):
        scene.must_claim(records, worker, "export")
        scene.advance(records, 16)
        one.step()
    [job] = records.jobs(campaign)
    assert job["state"] == "failed"
    assert "lease lapsed" in job["error"]


def test_a_broker_that_is_away_costs_bells_and_nothing_else(
    records: Records, redis_process: RedisProcess
) -> None:
    one = coordinator(records, f"unix://{redis_process.folder}/none.sock", "one")
    scene.submit(records, scene.job())
    scene.cpu(records)
    assert one.step() == 0
    assert scene.claim(records, "cpu", "export") is not None
