"""The systems that are compared: each runs the same jobs with as many workers over a Redis of its own."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import psutil

from bench.rivals.job import Execution, executions
from farm.local.process import worker_argv
from farm.records import connect
from tests.faults.bench import Bench, Made
from tests.redis_server import RedisProcess

ROOT = Path(__file__).parents[2]
#: Seconds until a worker that was killed is started again, as a supervisor would.
RESTART_S = 1.0


class Worker:
    """One worker: its main process, started again when it has ended."""

    def __init__(self, argv: list[str], env: Mapping[str, str], log: Path) -> None:
        self.argv, self.env, self.log = argv, env, log
        self.process: subprocess.Popen[bytes] | None = None
        self.again_at = 0.0

    def keep(self) -> None:
        """Start it, or start it again when its time has come."""
        now = time.monotonic()
        if self.process is not None and self.process.poll() is not None:
            self.process, self.again_at = None, now + RESTART_S
        if self.process is None and now >= self.again_at:
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    self.argv,
                    env=dict(self.env),
                    cwd=self.log.parent,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

    def processes(self) -> list[psutil.Process]:
        """The main process and all below it, none where it is down."""
        if self.process is None or self.process.poll() is not None:
            return []
        try:
            main = psutil.Process(self.process.pid)
            return [main, *main.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def end(self) -> None:
        """KILL to all of it."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self.process is not None:
            self.process.wait(20)


class System(Protocol):
    """One of the systems, its workers not yet started."""

    name: str
    workers: list[Worker]

    def submit(self, jobs: int) -> None:
        """Queue that many jobs."""

    def executions(self) -> list[Execution]:
        """Every execution so far."""

    def pending(self) -> set[int]:
        """The jobs that are neither done nor lost: the system still has them."""

    def close(self) -> None:
        """End all of it."""


class Rival:
    """A task queue over a durable Redis of its own."""

    def __init__(self, name: str, module: str, workers: int, folder: Path, **settings: str) -> None:
        self.name = name
        self._module = module
        self._folder = folder
        folder.mkdir()
        self._log = folder / "executions"
        self._redis = RedisProcess(durable=True)
        self._redis.start()
        self._env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "BENCH_REDIS": self._redis.url,
            "BENCH_LOG": str(self._log),
            **settings,
        }
        self.workers = [
            Worker(self._argv(n), {**self._env, **self._prefetch()}, folder / f"worker-{n}.log")
            for n in range(workers)
        ]

    def _argv(self, n: int) -> list[str]:
        if "dramatiq" in self._module:
            return [sys.executable, "-m", "dramatiq", self._module, "-p", "1", "-t", "1"]
        options = ["-l", "WARNING", "-n", f"{n}@%h", "--without-mingle", "--without-gossip"]
        return [sys.executable, "-m", "celery", "-A", self._module, "worker", *options]

    @staticmethod
    def _prefetch() -> dict[str, str]:
        return {"dramatiq_queue_prefetch": "1"}

    def submit(self, jobs: int) -> None:
        """By a process of its own: each of these libraries reads its broker at import."""
        call = "send" if "dramatiq" in self._module else "delay"
        code = f"from {self._module} import job\nfor n in range({jobs}): job.{call}(n)"
        subprocess.run([sys.executable, "-c", code], env=self._env, cwd=self._folder, check=True, timeout=60)

    def executions(self) -> list[Execution]:
        """See System."""
        return executions(self._log)

    def pending(self) -> set[int]:
        """The jobs whose message is in the broker, queued or given out and not acknowledged."""
        client = connect(self._redis.url)
        if "dramatiq" in self._module:
            return {json.loads(m)["args"][0] for m in client.hvals("dramatiq:default.msgs")}
        messages = [json.loads(raw) for raw in client.lrange("celery", 0, -1)]
        messages += [json.loads(raw)[0] for raw in client.hvals("unacked")]
        return {_celery_job(message) for message in messages}

    def close(self) -> None:
        """See System."""
        for worker in self.workers:
            worker.end()
        self._redis.kill()
        self._redis.stop()


def _celery_job(message: Mapping[str, Any]) -> int:
    (number,) = json.loads(message["headers"]["argsrepr"].replace(",)", "]").replace("(", "["))
    return int(number)


class Farm:
    """The farm: its jobs are one-second runs on emulated cards with modelled times, one worker a card."""

    name = "farm"

    def __init__(self, made: Made, workers: int, folder: Path) -> None:
        self._bench = Bench(folder, made, FARM_LEASE_S="15")
        self._bench.coordinator()
        self.workers = [
            Worker(
                worker_argv("device", [f"device.{n}"], name=f"card-{n}"),
                self._bench.env,
                folder / f"card-{n}.log",
            )
            for n in range(workers)
        ]
        self._campaign = ""

    def submit(self, jobs: int) -> None:
        """A campaign whose runs are ready at once, when the cards have proved themselves."""
        for n in range(len(self.workers)):
            self._bench.good(n)
        self._campaign = self._bench.submit(*(self._bench.made.job(repeat=n) for n in range(jobs)))

    def executions(self) -> list[Execution]:
        """The attempts of the runs; an attempt starts when it is claimed."""
        found = []
        for number, job in enumerate(self._bench.records.jobs(self._campaign)):
            for entry in self._bench.records.job(job["job"])["history"]:
                if entry["stage"] == "run" and entry.get("outcome") not in ("taken over", "parked"):
                    ended = _seconds(entry["ended"]) if entry.get("outcome") == "done" else None
                    pid = int(entry["worker"].split(":")[1])
                    found.append(Execution(number, pid, _seconds(entry["started"]), ended))
        return sorted(found, key=lambda e: e.started)

    def pending(self) -> set[int]:
        """The jobs that the records have as waiting or running."""
        jobs = self._bench.records.jobs(self._campaign)
        states = self._bench.records.queries.outcomes(self._campaign)
        runs = [entry["stages"]["run"]["state"] for entry in states]
        return {n for n in range(len(jobs)) if runs[n] in ("waiting", "ready", "claimed")}

    def close(self) -> None:
        """See System."""
        for worker in self.workers:
            worker.end()
        self._bench.close()


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def check_rivals() -> None:
    """Raises SystemExit where the libraries of the rivals are not installed."""
    try:
        importlib.import_module("dramatiq")
    except ModuleNotFoundError:
        raise SystemExit("dramatiq is not installed: make venv, or pip install -e '.[bench]'") from None
