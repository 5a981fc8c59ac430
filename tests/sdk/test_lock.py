"""The card's lock between real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from farm.domain.errors import BadInput, StageFailed
from farm.sdk.child import ChildSpec
from farm.sdk.launcher import CardLockRequest, DirectLauncher
from farm.sdk.lock import CardLock, lock_folder

ADDRESS = "0000:01:00.0"
HOLDER = """
import subprocess, sys
from pathlib import Path
from farm.sdk.lock import CardLock
lock = CardLock(Path(sys.argv[1]), "0000:01:00.0", 14)
assert lock.try_share(int(sys.argv[2])) if sys.argv[2] != "all" else lock.try_exclusive()
child = None
if len(sys.argv) > 3:
    command = [sys.executable, "-S", "-c", "import sys; sys.stdin.read()"]
    child = subprocess.Popen(command, pass_fds=(lock.fileno(),))
print("held", child.pid if child else 0, flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another process that holds the card (or some cores); yields it and its child's pid."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline().split()
        assert line[:1] == ["held"]
        yield process, int(line[1])
    finally:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()


def soon(lock: CardLock) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if lock.try_exclusive():
            return True
        time.sleep(0.02)
    return False


def test_exclusive_shuts_everybody_else_out(tmp_path: Path) -> None:
    lock = CardLock(tmp_path, ADDRESS, 14)
    with holder(tmp_path, "all") as (process, _):
        assert not lock.try_exclusive()
        assert lock.try_share(1) is None
        assert lock.holder_pids() == [process.pid]
    assert lock.try_exclusive()
    assert lock.holder_pids() == [os.getpid()]
    lock.release()


def test_shared_cores_never_overlap(tmp_path: Path) -> None:
    lock, third = CardLock(tmp_path, ADDRESS, 14), CardLock(tmp_path, ADDRESS, 14)
    with holder(tmp_path, "6"):
        assert lock.try_share(9) is None
        assert lock.try_share(8) == (6, 7, 8, 9, 10, 11, 12, 13)
        assert third.try_share(1) is None
        assert not third.try_exclusive()
    assert third.try_share(6) == (0, 1, 2, 3, 4, 5)
    lock.release()
    third.release()


def test_a_refused_share_leaves_nothing_locked(tmp_path: Path) -> None:
    lock, other = CardLock(tmp_path, ADDRESS, 14), CardLock(tmp_path, ADDRESS, 14)
    with holder(tmp_path, "6"):
        assert lock.try_share(9) is None
        assert other.try_share(8) is not None
    lock.release()
    other.release()


def test_kill_frees_the_card(tmp_path: Path) -> None:
    lock = CardLock(tmp_path, ADDRESS, 14)
    with holder(tmp_path, "all") as (process, _):
        assert not lock.try_exclusive()
        process.send_signal(signal.SIGKILL)
        process.wait(20)
        assert lock.try_exclusive()
    lock.release()


def test_a_child_keeps_the_card_of_a_killed_holder(tmp_path: Path) -> None:
    lock = CardLock(tmp_path, ADDRESS, 14)
    with holder(tmp_path, "all", "child") as (process, child):
        process.send_signal(signal.SIGKILL)
        process.wait(20)
        assert not lock.try_exclusive()
        assert lock.holder_pids() == [child]
        os.kill(child, signal.SIGKILL)
        assert soon(lock)
    lock.release()


def test_releasing_does_not_take_the_lock_from_a_child(tmp_path: Path) -> None:
    ours, other = CardLock(tmp_path, ADDRESS, 14), CardLock(tmp_path, ADDRESS, 14)
    assert ours.try_exclusive()
    command = [sys.executable, "-S", "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(ours.fileno(),)) as child:
        ours.release()
        assert not other.try_exclusive()
        child.kill()
    assert soon(other)
    other.release()


def test_the_folder_is_every_users(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "locks"
    lock = CardLock(folder, ADDRESS, 14)
    assert folder.stat().st_mode & 0o7777 == 0o1777
    assert lock.path.stat().st_mode & 0o777 == 0o666
    lock.release()


@pytest.mark.parametrize("address", ["", "../x", "0000:01:00.0/../..", "01:00.0", "0000:01:00.0\n"])
def test_an_address_that_is_none_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(BadInput, match="PCI address"):
        CardLock(tmp_path, address, 14)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="FARM_LOCK_DIR"):
        CardLock(tmp_path / "file" / "locks", ADDRESS, 14)


def test_the_folder_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FARM_LOCK_DIR", raising=False)
    assert lock_folder(tmp_path) == Path("/run/lock/aic-farm")
    (tmp_path / "emulator.json").write_text("{}")
    assert lock_folder(tmp_path) == tmp_path / "lock"
    monkeypatch.setenv("FARM_LOCK_DIR", "/elsewhere")
    assert lock_folder(tmp_path) == Path("/elsewhere")


def test_the_launchers_children_inherit_the_hold(tmp_path: Path) -> None:
    request = CardLockRequest(tmp_path / "locks", ADDRESS, 14)
    launcher = DirectLauncher()
    code = "from pathlib import Path\nfor fd in Path('/proc/self/fd').iterdir(): print(fd.resolve())"
    child = ChildSpec([sys.executable, "-c", code], tmp_path, tmp_path / "log", 30)
    with launcher.hold(request, 1) as held:
        assert held.cores is None
        assert launcher.run(child).ok
    assert f"{ADDRESS}.lock" in (tmp_path / "log").read_text()
    launcher.run(ChildSpec(child.argv, tmp_path, tmp_path / "log2", 30))
    assert ADDRESS not in (tmp_path / "log2").read_text()


def test_a_hold_not_got_says_who_has_it(tmp_path: Path) -> None:
    with (
        holder(tmp_path, "all") as (process, _),
        pytest.raises(StageFailed, match=f"held by another process .pid {process.pid}") as caught,
        DirectLauncher().hold(CardLockRequest(tmp_path, ADDRESS, 14), 0.2),
    ):
        pass
    assert caught.value.kind == "busy"


def test_a_hold_waits_for_its_turn(tmp_path: Path) -> None:
    first = CardLock(tmp_path, ADDRESS, 14)
    assert first.try_share(10) == tuple(range(10))
    launcher = DirectLauncher()
    with launcher.hold(CardLockRequest(tmp_path, ADDRESS, 14, cores=4), 5) as held:
        assert held.cores == (10, 11, 12, 13)
    first.release()
