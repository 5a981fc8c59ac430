"""A worker's guard and its real keeper process: children, holds, and what is left when one of them dies."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import psutil
import pytest

from farm.domain.errors import StageFailed
from farm.records import Records
from farm.records.claims import Claim
from farm.sdk.child import ChildSpec
from farm.sdk.launcher import CardLockRequest
from farm.sdk.lock import CardLock
from farm.sdk.tree import MARK
from farm.worker.client import Guard, KeeperGone, Revoked
from farm.worker.orphans import end_orphans, keeper_mark
from tests.records import scene
from tests.redis_server import RedisProcess

ADDRESS = "0000:01:00.0"
CLAIM = Claim("c/run-1", "run", "token", 1, "c", {}, {}, {}, (), 0, 0)


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Guard]:
    """A guard whose keeper finds no Redis: what is tested here needs none."""
    guard = Guard(f"unix://{tmp_path}/none", tmp_path, tmp_path / "outbox", tmp_path / "keeper.log", None)
    yield guard
    guard.close()


def python(folder: Path, code: str, limit_s: float = 60) -> ChildSpec:
    return ChildSpec([sys.executable, "-c", code], folder, folder / "child.log", limit_s)


def always() -> bool:
    return True


def test_a_child_runs_under_the_keeper_and_hears_every_signal(guard: Guard, tmp_path: Path) -> None:
    code = (
        "import os, signal\n"
        "print(os.getppid(), [signal.getsignal(s) == signal.SIG_DFL"
        " for s in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)])"
    )
    with guard.attempt(CLAIM, None, always):
        result = guard.run(python(tmp_path, code))
    assert result.ok
    assert result.log.read_text() == f"{guard.pid} [True, True, True]\n"


def test_a_program_that_does_not_start_fails_the_attempt_and_not_the_keeper(
    guard: Guard, tmp_path: Path
) -> None:
    with guard.attempt(CLAIM, None, always):
        with pytest.raises(StageFailed, match="cannot start /none"):
            guard.run(ChildSpec(["/none"], tmp_path, tmp_path / "log", 5))
        assert guard.run(python(tmp_path, "print(1)")).ok


class Interrupted(Exception):
    pass


def test_an_attempt_that_is_left_while_its_child_runs_takes_the_child_with_it(
    guard: Guard, tmp_path: Path
) -> None:
    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise Interrupted

    code = f"import os, signal, time; os.kill({os.getpid()}, signal.SIGUSR1); time.sleep(60)"
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(Interrupted), guard.attempt(CLAIM, None, always):
            guard.run(python(tmp_path, code))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert psutil.Process(guard.pid).children() == []
    with guard.attempt(CLAIM, None, always):
        assert guard.run(python(tmp_path, "print(1)")).ok, "its end does not pass for the next one's"


def test_an_attempt_over_its_limit_loses_its_child(guard: Guard, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="limit"), guard.attempt(CLAIM, 0.2, always):
        guard.run(python(tmp_path, "import time; time.sleep(60)"))


def test_a_hold_excludes_others_and_ends_with_its_block(guard: Guard, tmp_path: Path) -> None:
    other = CardLock(tmp_path, ADDRESS, 14)
    with guard.attempt(CLAIM, None, always):
        with guard.hold(CardLockRequest(tmp_path, ADDRESS, 14), 1):
            assert not other.try_exclusive()
            assert other.holder_pids() == [guard.pid]
        assert other.try_exclusive()
    other.release()


def test_a_card_held_by_a_stranger_names_him(guard: Guard, tmp_path: Path) -> None:
    other = CardLock(tmp_path, ADDRESS, 14)
    assert other.try_exclusive()
    guard.card_known = lambda: False
    request = CardLockRequest(tmp_path, ADDRESS, 14)
    with (
        guard.attempt(CLAIM, None, always),
        pytest.raises(StageFailed, match=f"pid {os.getpid()}") as caught,
        guard.hold(request, 0.1),
    ):
        pytest.fail("held")
    assert caught.value.kind == "busy"
    other.release()


def test_a_lock_that_cannot_be_made_is_the_hosts_fault(guard: Guard, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    request = CardLockRequest(tmp_path / "file" / "locks", ADDRESS, 14)
    with (
        guard.attempt(CLAIM, None, always),
        pytest.raises(StageFailed, match="FARM_LOCK_DIR") as caught,
        guard.hold(request, 0.1),
    ):
        pytest.fail("held")
    assert caught.value.kind == "host"


def test_what_a_worker_claimed_before_it_died_is_handed_back_though_it_was_not_guarded(
    records: Records, redis_process: RedisProcess, tmp_path: Path
) -> None:
    guard = Guard(redis_process.url, tmp_path, tmp_path / "outbox", tmp_path / "keeper.log", None)
    campaign = scene.submit(records, scene.job())
    guard.register(identity(os.getpid()))
    claim = scene.must_claim(records, "w", "export")
    guard.close()
    [entry] = records.job(records.jobs(campaign)[0]["job"])["history"]
    assert entry["outcome"] == "worker lost"
    assert records.claims.fence(claim.stage)[1] == {"lost": 1, "lost_alone": 1}
    assert records.fleet.workers() == []


def test_an_attempt_whose_worker_dies_after_its_limit_is_handed_back(
    records: Records, redis_process: RedisProcess, tmp_path: Path
) -> None:
    guard = Guard(redis_process.url, tmp_path, tmp_path / "outbox", tmp_path / "keeper.log", None)
    campaign = scene.submit(records, scene.job())
    guard.register(identity(os.getpid()))
    claim = scene.must_claim(records, "w", "export")

    def outlast_limit() -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            guard.check()

    with contextlib.suppress(KeeperGone), guard.attempt(claim, 0.1, always):
        with pytest.raises(Revoked, match="limit"):
            outlast_limit()
        guard.close()
    [entry] = records.job(records.jobs(campaign)[0]["job"])["history"]
    assert entry["outcome"] == "worker lost"


def identity(pid: int) -> dict[str, Any]:
    """What a worker called "w" on the export queue registers as."""
    return {
        "worker": "w", "queues": ["export"], "node": "host", "pid": pid, "celery": pid,
        "card": "", "facts": {}, "memory": None, "store": None, "keeper": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("exporter", "there", "ended"),
    [
        (None, True, True),
        ("time.sleep(60)", True, True),
        ("while True: pass", True, False),
        (None, False, False),
    ],
    ids=["alone", "an idle exporter", "a busy exporter", "Redis is away"],
)
def test_a_worker_that_does_nothing_at_an_attempt_is_ended(
    exporter: str | None,
    there: bool,
    ended: bool,
    records: Records,
    redis_process: RedisProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FARM_STALL_S", "1")
    url = redis_process.url if there else f"unix://{tmp_path}/none"
    guard = Guard(url, tmp_path, tmp_path / "outbox", tmp_path / "keeper.log", None)
    worker = subprocess.Popen(["/bin/sleep", "60"])
    try:
        guard.register(identity(worker.pid))
        scene.submit(records, scene.job())
        claim = scene.claim(records, "w", "export") or replace(CLAIM, kind="export")
        with guard.attempt(claim, None, always):
            if exporter is not None:
                guard.start_exporter(python(tmp_path, f"import time\n{exporter}"), ())
            if ended:
                assert worker.wait(10) == -signal.SIGKILL
            else:
                with pytest.raises(subprocess.TimeoutExpired):
                    worker.wait(3)
    finally:
        worker.kill()
        worker.wait()
        guard.close()


def test_a_dead_keeper_is_noticed(guard: Guard, tmp_path: Path) -> None:
    psutil.Process(guard.pid).kill()
    guard.wait()
    with pytest.raises(KeeperGone), guard.attempt(CLAIM, None, always):
        guard.run(python(tmp_path, "print(1)"))


def test_only_orphans_of_the_own_farm_are_ended(tmp_path: Path) -> None:
    alive = subprocess.Popen(["sleep", "60"])
    dead = subprocess.Popen(["sleep", "60"])
    marks = {
        "orphan": keeper_mark(tmp_path, dead.pid),
        "guarded": keeper_mark(tmp_path, alive.pid),
        "another farm's": keeper_mark(tmp_path / "other", dead.pid),
        "a stranger": "farm-2f",
    }
    dead.kill()
    dead.wait()
    children = {
        name: subprocess.Popen(["sleep", "60"], env={**os.environ, MARK: mark})
        for name, mark in marks.items()
    }
    try:
        assert end_orphans(tmp_path) == [children["orphan"].pid]
        assert [name for name, child in children.items() if child.poll() is None] == [
            "guarded",
            "another farm's",
            "a stranger",
        ]
    finally:
        for child in (alive, *children.values()):
            child.kill()
            child.wait()
