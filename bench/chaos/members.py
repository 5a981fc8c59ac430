"""The processes of a running farm by what they are, so that a benchmark can choose one to kill."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import psutil

#: What a farm consists of. `host` is not a process: it is a worker with all that belongs to it, at once.
ROLES = (
    "worker", "pool process", "keeper", "SDK child", "exporter", "host",
    "coordinator", "records' Redis", "bells' Redis",
)  # fmt: skip

#: A victim: the processes that are killed together.
Group = Sequence[psutil.Process]


def members(supervisor: psutil.Process) -> Mapping[str, list[Group]]:
    """The victims there are now, by role. `supervisor` is the process of `farm up`, which is none of them."""
    found: dict[str, list[Group]] = defaultdict(list)
    for child in supervisor.children():
        role = _role_of_child(child)
        if role is not None:
            found[role].append([child])
        if role == "worker":
            _worker(child, found)
    return found


def _worker(main: psutil.Process, found: dict[str, list[Group]]) -> None:
    below = _children(main, recursive=True)
    if below:
        found["host"].append([main, *below])
    for process in below:
        words = _words(process)
        if "farm.worker.keeper" in words:
            found["keeper"].append([process])
            found["pool process"] += [[p] for p in [process.parent()] if p is not None]
            for child in _children(process):
                role = "exporter" if "export_child" in _words(child) else "SDK child"
                found[role].append([child])


def _role_of_child(child: psutil.Process) -> str | None:
    words = _words(child)
    if "redis-server" in words:
        return "records' Redis" if "/records/" in words else "bells' Redis"
    if "celery" in words:
        return "worker"
    return "coordinator" if "farm coordinator" in words else None


def _children(process: psutil.Process, *, recursive: bool = False) -> list[psutil.Process]:
    try:
        return process.children(recursive=recursive)
    except psutil.NoSuchProcess:
        return []


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
