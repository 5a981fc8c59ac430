"""Orphans: SDK tools and exporters whose keeper was killed. They may still use a card, and nobody ends them.

Every child of a keeper carries a mark that names the keeper and its farm, so that a worker which starts on
the node recognises what a dead keeper of its own farm left behind, and nothing else.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from pathlib import Path

import psutil

from farm.domain.digest import digest
from farm.sdk.tree import MARK

#: TERM to KILL.
GRACE_S = 2.0
_KIND = "keeper"


def keeper_mark(home: Path, keeper: int) -> str:
    """A fresh mark for a child of the running process `keeper`."""
    started = psutil.Process(keeper).create_time()
    return ":".join([_KIND, _scope(home), str(keeper), repr(started), secrets.token_hex(8)])


def find_orphans(home: Path) -> list[psutil.Process]:
    """The children of dead keepers of the farm at `home`, with all they started, that run still."""
    scope = _scope(home)
    return [process for process in psutil.process_iter() if _is_orphan(process, scope)]


def end_orphans(home: Path) -> list[int]:
    """End the orphans of the farm at `home`; their pids."""
    orphans = find_orphans(home)
    for signal in (psutil.Process.terminate, psutil.Process.kill):
        for process in orphans:
            with contextlib.suppress(psutil.Error):
                signal(process)
        if _ended(orphans):
            break
    return [process.pid for process in orphans]


def _ended(processes: list[psutil.Process]) -> bool:
    """Whether all end within GRACE_S. A zombie has ended: a container's init may never reap it."""
    deadline = time.monotonic() + GRACE_S
    while any(_runs(process) for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _scope(home: Path) -> str:
    """The farm, and the process namespace in which its pids mean anything."""
    return digest([str(home), str(Path("/proc/self/ns/pid").readlink())], 16)


def keeper_died(mark: str, home: Path) -> bool:
    """Whether the mark is of a keeper of the farm at `home` on this host, and that keeper runs no more."""
    return _died(mark, _scope(home))


def _died(mark: str, scope: str) -> bool:
    try:
        kind, found, keeper, started, _ = mark.split(":")
        if (kind, found) != (_KIND, scope):
            return False
        owner = psutil.Process(int(keeper))
        return repr(owner.create_time()) != started or not _runs(owner)
    except psutil.NoSuchProcess:
        return True
    except ValueError:
        return False


def _is_orphan(process: psutil.Process, scope: str) -> bool:
    try:
        return _runs(process) and _died(process.environ().get(MARK, ""), scope)
    except (OSError, psutil.Error):
        return False
