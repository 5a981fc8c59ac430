"""The job of the rivals: a child process that sleeps. Its start and its end are noted in a file."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

#: As long as a run of the farm's emulated card, s.
SLEEP_S = 1


@dataclass(frozen=True)
class Execution:
    """One execution of a job by the process `pid`, wall clock, s; ended: None where it was cut short."""

    job: int
    pid: int
    started: float
    ended: float | None


def perform(job: int) -> None:
    """Do the job. BENCH_LOG names the file."""
    started = time.time()
    _note(f"start {job} {os.getpid()} {started}")
    subprocess.run(["sleep", str(SLEEP_S)], check=True)
    _note(f"end {job} {os.getpid()} {started} {time.time()}")


def _note(line: str) -> None:
    fd = os.open(os.environ["BENCH_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, f"{line}\n".encode())
    finally:
        os.close(fd)


def executions(log: Path) -> list[Execution]:
    """What the file tells, in the order of the starts."""
    found: dict[tuple[str, ...], Execution] = {}
    for line in log.read_text().splitlines() if log.exists() else []:
        what, job, pid, started, *rest = line.split()
        ended = float(rest[0]) if what == "end" else None
        found[job, pid, started] = Execution(int(job), int(pid), float(started), ended)
    return sorted(found.values(), key=lambda e: e.started)
