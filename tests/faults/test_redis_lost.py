"""Redis is killed and comes back, or is not there yet: results are kept, workers find it again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.bench import BUSY_S, Bench
from tests.faults.test_deaths import started_run


def test_a_run_that_ends_while_redis_is_away_is_recorded_when_it_is_back(bench: Bench) -> None:
    bench.coordinator()
    bench.worker()
    bench.good()
    bench.slow_runs(4)
    campaign = bench.submit(*(bench.made.job(repeat=n) for n in range(2)))
    bench.runner()
    outbox = bench.home / "outbox"
    bench.redis.kill()
    bench.files(lambda: list(outbox.glob("*.json")), 20, "outcome on disk")
    bench.redis.start()
    took = bench.until(lambda: bench.runs(campaign)["done"], 15, "recorded result")
    assert took < 5 + BUSY_S
    assert (
        bench.until(lambda: bench.runs(campaign)["running"] or bench.runs(campaign)["done"] == 2, 20, "bell")
        < 5 + BUSY_S
    )
    bench.until(lambda: bench.runs(campaign)["done"] == 2, 20, "second result")
    assert [len(bench.history(campaign, nth)) for nth in range(2)] == [1, 1]
    bench.files(lambda: not list(outbox.glob("*.json")), 5, "empty outbox")


def test_a_lease_does_not_lapse_while_redis_is_away(bench: Bench) -> None:
    campaign, runner = started_run(bench)
    bench.redis.kill()
    away = time.monotonic()
    bench.files(lambda: time.monotonic() - away > 5, 10, "absence longer than the lease")
    bench.redis.start()
    ticks = bench.clock()
    bench.until(lambda: bench.clock() > ticks + 2000, 20, "ticks")
    assert len(bench.history(campaign)) == 1
    assert bench.history(campaign)[0].get("outcome") is None
    assert runner.is_running()


def test_a_redis_that_became_a_replica_is_waited_for(bench: Bench) -> None:
    bench.coordinator()
    bench.worker()
    bench.good()
    bench.slow_runs(4)
    campaign = bench.submit(bench.made.job())
    bench.runner()
    redis = bench.records.client
    redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    bench.files(lambda: list((bench.home / "outbox").glob("*.json")), 20, "outcome on disk")
    logs = [bench.folder / name for name in ("worker.log", "coordinator.log")]
    bench.files(lambda: all("takes no writes" in log.read_text() for log in logs), 20, "word of it")
    refused = bench.farm("cancel", campaign)
    assert refused.returncode == 3
    assert refused.stderr.startswith("farm: Redis takes no writes: ")
    redis.execute_command("REPLICAOF", "NO", "ONE")
    bench.until(lambda: bench.runs(campaign)["done"], 15, "recorded result")
    assert len(bench.history(campaign)) == 1


def test_a_redis_whose_memory_is_full_is_waited_for(bench: Bench) -> None:
    coordinator = bench.coordinator()
    bench.until(bench.records.coordinator_alive, 20, "coordinator")
    redis = bench.records.client
    redis.config_set("maxmemory", 1)
    log = bench.folder / "coordinator.log"
    bench.files(lambda: "takes no writes" in log.read_text(), 20, "word of it")
    redis.config_set("maxmemory", 0)
    clock = bench.clock()
    bench.until(lambda: bench.clock() > clock, 20, "tick")
    assert coordinator.poll() is None


def test_what_an_earlier_worker_could_not_report_a_later_one_does(bench: Bench) -> None:
    bench.coordinator()
    worker = bench.worker()
    bench.good()
    bench.slow_runs(4)
    campaign = bench.submit(bench.made.job())
    bench.runner()
    bench.redis.kill()
    bench.files(lambda: list((bench.home / "outbox").glob("*.json")), 20, "outcome on disk")
    for process in (bench.keeper(), bench.pool_process()):
        process.suspend()
        process.kill()
    worker.kill()
    bench.redis.start()
    assert bench.runs(campaign)["done"] == 0
    bench.worker(name="later")
    assert bench.runs(campaign)["done"] == 1
    assert len(bench.history(campaign)) == 1


@pytest.mark.parametrize("what", ["worker", "coordinator"])
def test_what_starts_before_its_redis_waits_for_it(bench: Bench, what: str) -> None:
    bench.redis.kill()
    if what == "worker":
        process = bench.start("early", bench.worker_argv("device.0", "early"))
    else:
        process = bench.coordinator("early")
    log: Path = bench.folder / "early.log"
    bench.files(lambda: "trying again each second" in log.read_text(), 15, "word of it")
    bench.redis.start()
    there = {"worker": bench.records.fleet.workers, "coordinator": bench.records.coordinator_alive}[what]
    assert bench.until(there, 20, what) < 5 + 2 * BUSY_S
    assert process.poll() is None
