"""Redis comes back empty or older: all say so, write nothing there, keep what they have, and go on after."""

from __future__ import annotations

from pathlib import Path

from tests.faults.bench import Bench


def at_work(bench: Bench, jobs: int = 1) -> str:
    """A coordinator, a worker, and a campaign whose first run has begun."""
    bench.coordinator()
    bench.worker()
    bench.good()
    bench.slow_runs(4)
    campaign = bench.submit(*(bench.made.job(repeat=n) for n in range(jobs)))
    bench.runner()
    return campaign


def outbox(bench: Bench) -> list[Path]:
    return list((bench.home / "outbox").glob("*.json"))


def wait_until_told(bench: Bench, what: str, *, worker: str = "worker") -> None:
    """Until coordinator, worker and keeper have each told what is wrong with the records."""
    logs = [bench.folder / log for log in ("coordinator.log", f"{worker}.log", "home/logs/keepers.log")]
    bench.files(lambda: all(what in log.read_text() for log in logs), 20, f"word of it: {what!r}")


def records_of(bench: Bench) -> list[str]:
    return sorted(bench.records.client.scan_iter("farm:*"))


def test_an_empty_redis_is_refused_until_its_file_is_back(bench: Bench) -> None:
    campaign = at_work(bench)
    bench.redis.kill()
    bench.files(lambda: outbox(bench), 20, "outcome on disk")
    bench.redis.save(bench.folder / "saved")
    bench.redis.put(None)
    bench.redis.start()
    wait_until_told(bench, "is empty, but held the records of farm")
    assert records_of(bench) == []
    assert len(outbox(bench)) == 1
    for words in (["status"], ["submit", "-m", str(bench.made.model)]):
        refused = bench.farm(*words)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (3, 1), refused.stderr
        assert "is empty, but held" in refused.stderr
        assert "farm adopt" in refused.stderr
    doctor = bench.farm("doctor")
    assert doctor.returncode == 1
    assert "BAD   Redis: Redis at unix://" in doctor.stdout
    assert records_of(bench) == []
    bench.redis.kill()
    bench.redis.put(bench.folder / "saved")
    bench.redis.start()
    bench.until(lambda: bench.runs(campaign)["done"], 15, "recorded result")
    assert len(bench.history(campaign)) == 1, "0 lost, 0 run again"
    bench.files(lambda: not outbox(bench), 5, "empty outbox")


def test_older_records_are_refused_until_they_are_adopted(bench: Bench) -> None:
    campaign = at_work(bench)
    bench.redis.save(bench.folder / "backup")
    bench.until(lambda: bench.runs(campaign)["done"], 30, "result")
    bench.redis.kill()
    bench.redis.put(bench.folder / "backup")
    bench.redis.start()
    bench.files(lambda: "holds older records" in (bench.folder / "coordinator.log").read_text(), 20, "word")
    clock = bench.clock()
    late = bench.start("late", bench.worker_argv("device.0", "late"))
    wait_until_told(bench, "holds older records of farm", worker="late")
    assert late.poll() is None
    refused = bench.farm("results", campaign)
    assert refused.returncode == 3
    assert "of its work are missing" in refused.stderr
    assert bench.clock() == clock, "nobody wrote"
    adopted = bench.farm("adopt")
    assert "the older records are epoch 2 of farm" in adopted.stderr
    assert bench.farm("adopt").stderr.startswith("farm: nothing to adopt")
    bench.until(lambda: bench.runs(campaign)["done"], 30, "result")
    assert len(bench.records.results(campaign)) == 1
    assert len(bench.history(campaign)) == 2, "1 extra run: the copy was made while the first ran"


def test_records_that_are_flushed_at_work_stay_empty_until_they_are_adopted(bench: Bench) -> None:
    at_work(bench)
    bench.records.client.flushall()
    bench.files(lambda: outbox(bench), 20, "outcome on disk")
    wait_until_told(bench, "is empty, but held the records of farm")
    assert records_of(bench) == []
    assert len(outbox(bench)) == 1
    assert "the empty records are epoch 2 of farm" in bench.farm("adopt").stderr
    bench.good()
    fresh = bench.submit(bench.made.job())
    bench.until(lambda: bench.runs(fresh)["done"], 20, "result")
    assert len(bench.history(fresh)) == 1
