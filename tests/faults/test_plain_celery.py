"""`celery -A tasks worker -Q QUEUE`, without the farm's command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.bench import Bench

CELERY = Path(sys.executable).with_name("celery")
ROOT = Path(__file__).parents[2]
Plain = Callable[[list[str]], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def plain(tmp_path: Path) -> Plain:
    """Starts a worker that is to end at once, before it looks for any Redis."""

    def run(options: list[str]) -> subprocess.CompletedProcess[str]:
        env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "FARM_HOME": str(tmp_path),
            "FARM_REDIS_URL": f"unix://{tmp_path}/none.sock",
        }
        argv = [str(CELERY), "-A", "tasks", "worker", *options]
        return subprocess.run(argv, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    return run


def test_a_plain_celery_worker_without_the_cli_is_a_worker(bench: Bench) -> None:
    bench.coordinator()
    bench.start("plain", [str(CELERY), "-A", "tasks", "worker", "-Q", "device.0"])
    bench.good()
    campaign = bench.submit(bench.made.job())
    bench.until(lambda: bench.runs(campaign)["done"], 20, "result")


def test_threads_are_a_pool_too(bench: Bench) -> None:
    bench.coordinator()
    worker = bench.start("threads", [str(CELERY), "-A", "tasks", "worker", "-Q", "device.0", "-P", "threads"])
    bench.good()
    bench.slow_runs(1)
    campaign = bench.submit(bench.made.job())
    bench.runner()
    worker.terminate()
    assert worker.wait(30) == 0
    assert bench.runs(campaign)["done"] == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-Q", "device.0", "-P", "solo"], "farm: pool 'celery.concurrency.solo' cannot run stages"),
        (["-Q", "device.0", "-c", "2"], "farm: concurrency 2: a farm worker does one stage at a time"),
        (["-Q", "device.0", "--autoscale", "3,1"], "farm: concurrency (3, 1): a farm worker does one stage"),
        (["-Q", "device.0,export"], "farm: queues device.0, export: a card's worker consumes its card's"),
        (["-Q", "device.0,device.1"], "farm: queues device.0, device.1: a card's worker consumes"),
        (["-Q", "nope"], "farm: queue 'nope' is not one of the farm's"),
        ([], "farm: queue 'celery' is not one of the farm's"),
    ],
)
def test_what_cannot_work_is_refused_with_one_line(plain: Plain, options: list[str], said: str) -> None:
    done = plain(options)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(said), done.stderr
    assert "Traceback" not in done.stderr
