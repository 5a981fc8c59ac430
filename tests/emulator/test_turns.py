"""Under modelled timing the processes of a root compute one after another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from farm.emulator.runtime import turns
from farm.emulator.runtime.locks import LockFile

HOLDER = """
import sys
from pathlib import Path
from farm.emulator.runtime import turns
with turns.turn(Path(sys.argv[1])):
    print("mine", flush=True)
    sys.stdin.read()
"""


def test_a_turn_is_one_processs_alone_and_ends_with_it(tmp_path: Path) -> None:
    with (
        subprocess.Popen(
            [sys.executable, "-c", HOLDER, tmp_path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as holder,
        LockFile(tmp_path / turns.FILE) as lock,
    ):
        assert holder.stdout is not None
        assert holder.stdout.readline() == "mine\n"
        assert not lock.try_lock(0, 1)
        holder.kill()
        holder.wait(timeout=10)
        assert lock.try_lock(0, 1)


def test_who_waits_says_so_and_goes_on_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(turns, "_PATIENCE_S", 0.01)
    with LockFile(tmp_path / turns.FILE) as lock:
        lock.lock(0)
        with turns.turn(tmp_path):
            pass
    assert capsys.readouterr().err == "Emulated card: waiting for the host's CPUs\n" * 7
