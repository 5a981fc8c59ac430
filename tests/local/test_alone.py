"""Programs that wait for one another by a lock that lasts as long as they do."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil


def test_a_program_starts_when_the_one_before_it_has_ended(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "farm.local.alone", str(tmp_path / "lock"), "/bin/sleep", "60"]
    first = subprocess.Popen(argv)
    try:
        until_it_sleeps(first)
        second = subprocess.Popen(argv)
        try:
            waits = psutil.Process(second.pid)
            deadline = time.monotonic() + 10
            while len(locks(tmp_path / "lock")) < 2:
                assert time.monotonic() < deadline
            assert "farm.local.alone" in waits.cmdline()
            first.kill()
            until_it_sleeps(second)
        finally:
            second.kill()
            second.wait()
    finally:
        first.kill()
        first.wait()


def until_it_sleeps(process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while psutil.Process(process.pid).name() != "sleep":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def locks(path: Path) -> list[str]:
    """The lines of /proc/locks on a file: who holds it, and who waits."""
    mark = f":{path.stat().st_ino} "
    return [line for line in Path("/proc/locks").read_text().splitlines() if mark in line]
