"""One system under a schedule of kills: what was lost, done twice, and how long until it ran again."""

from __future__ import annotations

import contextlib
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import psutil

from bench.rivals.job import Execution
from bench.rivals.systems import System

Kind = Literal["process", "worker"]
#: Seconds for the first job to start, and between two looks.
FIRST_S, LOOK_S = 60.0, 0.05


@dataclass(frozen=True)
class Kill:
    """Planned: `after` s from the first start, `kind` of the worker of that number.

    process: the one that does the job alone. worker: all processes of it at once, the job's child included.
    """

    after: float
    kind: Kind
    worker: int


def schedule(seed: int, kills: int, every_s: float, workers: int) -> list[Kill]:
    """The same for every system."""
    draw = random.Random(seed)
    kinds: tuple[Kind, ...] = ("process", "worker")
    return [Kill((n + 1) * every_s, draw.choice(kinds), draw.randrange(workers)) for n in range(kills)]


@dataclass
class Hit:
    """A kill that was made, by the wall clock, and the processes that died."""

    kind: Kind
    at: float
    pids: frozenset[int]


@dataclass
class Measured:
    """What came of one system. again_s: by kind, for each execution cut short; None: not again."""

    name: str
    jobs: int
    seconds: float
    kills: int
    done: int
    stuck: int
    lost: int
    extra: int
    again_s: dict[Kind, list[float | None]] = field(default_factory=dict)

    def median_again(self, kind: Kind | None = None) -> float | None:
        """None where the median execution that was cut short did not run again."""
        found = [a for k, times in self.again_s.items() if kind in (None, k) for a in times]
        middle = statistics.median([float("inf") if a is None else a for a in found]) if found else None
        return None if middle == float("inf") else middle


def measure(system: System, jobs: int, plan: Sequence[Kill], wait_s: float) -> Measured:
    """Submit, kill by the plan, wait until all is done or until `wait_s` after the last kill."""
    for worker in system.workers:
        worker.keep()
    system.submit(jobs)
    deadline = time.monotonic() + FIRST_S
    while not system.executions():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{system.name}: no job started within {FIRST_S:.0f} s")
        _keep(system)
    started, hits, left = time.monotonic(), list[Hit](), list(plan)
    last = started + max((kill.after for kill in plan), default=0.0)
    done: set[int] = set()
    while time.monotonic() < last + wait_s:
        if left and time.monotonic() >= started + left[0].after:
            kill = left.pop(0)
            hits += _kill(system, kill)
        _keep(system)
        if not left or time.monotonic() > last:
            done = {e.job for e in system.executions() if e.ended is not None}
            if len(done) == jobs:
                break
    seconds = time.monotonic() - started
    return _sum_up(system, jobs, seconds, hits, system.executions(), system.pending())


def _keep(system: System) -> None:
    for worker in system.workers:
        worker.keep()
    time.sleep(LOOK_S)


def _kill(system: System, kill: Kill) -> list[Hit]:
    """The planned worker, or the next one that is up."""
    count = len(system.workers)
    for n in range(count):
        processes = system.workers[(kill.worker + n) % count].processes()
        doers = [p for p in processes if _does_jobs(p, processes)]
        if not doers:
            continue
        doomed = processes if kill.kind == "worker" else doers
        for signal in (psutil.Process.suspend, psutil.Process.kill):
            for process in doomed:
                with contextlib.suppress(psutil.NoSuchProcess):
                    signal(process)
        return [Hit(kill.kind, time.time(), frozenset(p.pid for p in doomed))]
    return []


def _does_jobs(process: psutil.Process, of: Sequence[psutil.Process]) -> bool:
    """Whether it is the process below the main one that does the jobs."""
    try:
        words = " ".join(process.cmdline())
        return process.ppid() == of[0].pid and ("celery" in words or "spawn" in words or "dramatiq" in words)
    except psutil.NoSuchProcess:
        return False


def _sum_up(
    system: System,
    jobs: int,
    seconds: float,
    hits: Sequence[Hit],
    found: Sequence[Execution],
    pending: set[int],
) -> Measured:
    done = {e.job for e in found if e.ended is not None}
    again: dict[Kind, list[float | None]] = {"process": [], "worker": []}
    for hit in hits:
        for cut in found:
            if cut.pid in hit.pids and cut.started <= hit.at and cut.ended is None:
                later = [e.started for e in found if e.job == cut.job and e.started > hit.at]
                again[hit.kind].append(min(later) - hit.at if later else None)
    missing = set(range(jobs)) - done
    return Measured(
        name=system.name,
        jobs=jobs,
        seconds=seconds,
        kills=len(hits),
        done=len(done),
        stuck=len(missing & pending),
        lost=len(missing - pending),
        extra=len(found) - len({e.job for e in found}),
        again_s=again,
    )
