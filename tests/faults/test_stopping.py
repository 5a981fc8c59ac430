"""A worker is told to stop, a job is cancelled: what runs ends in its time and the records know how."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from farm.sdk.lock import held_cards, lock_folder
from tests.faults.bench import BUSY_S, Bench, ended
from tests.faults.conftest import MakeBench
from tests.faults.test_deaths import started_run


@pytest.mark.parametrize("whole_group", [False, True])
def test_a_stopping_worker_finishes_its_run_and_claims_nothing_more(bench: Bench, whole_group: bool) -> None:
    bench.coordinator()
    worker = bench.worker()
    bench.good()
    bench.slow_runs(2)
    campaign = bench.submit(*(bench.made.job(repeat=n) for n in range(2)))
    bench.runner()
    if whole_group:
        os.killpg(worker.pid, signal.SIGTERM)
    else:
        worker.terminate()
    assert worker.wait(20) == 0
    assert bench.runs(campaign)["done"] == 1
    assert bench.runs(campaign)["ready"] == 1
    outcomes = [bench.history(campaign, nth) for nth in range(2)]
    assert sorted(len(attempts) for attempts in outcomes) == [0, 1]
    bench.until(lambda: not bench.records.fleet.workers(), 10, "farewell")
    bench.until(lambda: not bench.processes("farm.worker.keeper"), 10, "end of the keeper")


def test_a_run_that_outlasts_the_grace_period_is_handed_back_uncounted(make_bench: MakeBench) -> None:
    bench = make_bench(FARM_GRACE_S="1")
    campaign, runner = started_run(bench)
    [worker] = [p for p in bench.started if "worker" in str(p.args)]
    os.killpg(worker.pid, signal.SIGTERM)
    assert worker.wait(20) == 0
    assert bench.history(campaign)[0]["outcome"] == "worker stopped"
    assert bench.runs(campaign)["ready"] == 1
    assert ended(runner)
    bench.worker(name="next")
    again = bench.runner(but=runner.pid)
    stage = bench.records.claims.fence(bench.records.fleet.workers()[0]["stage"])
    assert stage[1] == {}, "no failure is counted"
    assert again.is_running()


def deaf_run(bench: Bench) -> tuple[str, psutil.Process]:
    """As `started_run`, with a runner that only KILL ends."""
    bench.coordinator()
    bench.worker()
    bench.good()
    bench.scenario(
        {"tool": "qaic-runner", "fault": "ignore-sigterm", "times": 1},
        {"tool": "qaic-runner", "fault": "hang", "times": 1},
    )
    campaign = bench.submit(bench.made.job())
    runner = bench.runner()
    bench.files(lambda: ignores_term(runner) and bench.acted() == 2, 20, "deafness")
    return campaign, runner


def ignores_term(process: psutil.Process) -> bool:
    status = Path(f"/proc/{process.pid}/status").read_text()
    ignored = next(line for line in status.splitlines() if line.startswith("SigIgn:"))
    return bool(int(ignored.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("deaf", [False, True])
def test_a_cancelled_run_ends_and_its_worker_goes_on(bench: Bench, deaf: bool) -> None:
    campaign, runner = deaf_run(bench) if deaf else started_run(bench, times=1)
    after = bench.submit(bench.made.job(repeat=1))
    began = time.monotonic()
    assert bench.records.cancel([campaign]) == 1
    bench.files(lambda: ended(runner) and not held_cards(lock_folder(bench.made.root)), 20, "free card")
    print(
        f"run, {'deaf' if deaf else 'hears TERM'}: cancelled -> card free: {time.monotonic() - began:.1f} s"
    )
    assert time.monotonic() - began < 7 + BUSY_S
    bench.until(lambda: bench.runs(after)["done"], 30, "the next job's result")
    assert bench.records.jobs(campaign)[0]["state"] == "cancelled"
    assert bench.card()["health"] == "good"
