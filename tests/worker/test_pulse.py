"""Telling a worker that works from one that does nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from farm.worker.pulse import Pulse


@pytest.fixture
def busy() -> Iterator[psutil.Process]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    yield psutil.Process(process.pid)
    process.kill()
    process.wait()


def test_a_process_that_takes_cpu_time_lives_and_a_stopped_one_does_not(busy: psutil.Process) -> None:
    pulse = Pulse(busy.pid)
    pulse.silent_s(0)
    spent = sum(busy.cpu_times()[:2])
    deadline = time.monotonic() + 10
    while sum(busy.cpu_times()[:2]) < spent + 0.05:
        assert time.monotonic() < deadline
    assert pulse.silent_s(1) == 0
    busy.suspend()
    while busy.status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < deadline
    pulse.silent_s(1.5)  # it may have taken some until it was stopped
    pulse.rest()
    assert [pulse.silent_s(now) for now in (2, 2.5, 3, 4)] == [0.0, 0.5, 1.0, 2.0]
    pulse.rest()
    assert pulse.silent_s(5) == 0


def test_time_in_which_nobody_looked_counts_as_a_second(busy: psutil.Process) -> None:
    pulse = Pulse(busy.pid)
    busy.suspend()
    deadline = time.monotonic() + 10
    while busy.status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < deadline
    pulse.silent_s(0)
    assert pulse.silent_s(1000) == 1.0, "the keeper itself was stopped, or its host"
