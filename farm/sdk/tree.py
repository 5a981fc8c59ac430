"""All processes a child has started, also those that left its session or lost their parent."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import psutil

#: The environment variable whose value every process of one child's tree carries.
MARK = "FARM_CHILD_MARK"


@dataclass(frozen=True)
class Usage:
    """Resident size now, and CPU seconds (user and system) so far, of a whole tree."""

    rss_bytes: int
    cpu_s: float


class Tree:
    """The processes that descend from `root_pid`, are in its session, or carry its mark.

    Members are remembered with their start time, so a reused pid is never taken for one.
    """

    def __init__(self, root_pid: int, mark: str) -> None:
        self._root_pid = root_pid
        self._mark = mark
        self._members: dict[int, psutil.Process] = {}
        self._cpu: dict[tuple[int, float], float] = {}
        self._remember(root_pid)

    def usage(self) -> Usage:
        """Figures of the descendants alive now; CPU seconds of those that ended stay counted."""
        root = self._members.get(self._root_pid)
        if root is not None:
            with contextlib.suppress(psutil.Error):
                for descendant in root.children(recursive=True):
                    self._members.setdefault(descendant.pid, descendant)
        rss = 0
        for process in self._living():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                self._cpu[process.pid, process.create_time()] = times.user + times.system
                rss += process.memory_info().rss
        return Usage(rss, sum(self._cpu.values()))

    def alive(self) -> set[int]:
        """Pids of the members that are alive (a zombie is not)."""
        self._find()
        return {process.pid for process in self._living()}

    def signal(self, number: int) -> None:
        """Send a signal to every member; one that has just ended is passed over."""
        self._find()
        for process in self._living():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _find(self) -> None:
        for pid in psutil.pids():
            if pid in self._members or pid == os.getpid():
                continue
            with contextlib.suppress(OSError, psutil.Error):
                if os.getsid(pid) == self._root_pid or self._is_marked(pid):
                    self._remember(pid)

    def _is_marked(self, pid: int) -> bool:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
        return f"{MARK}={self._mark}".encode() in environ.split(b"\0")

    def _remember(self, pid: int) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self._members[pid] = psutil.Process(pid)

    def _living(self) -> list[psutil.Process]:
        living = []
        for pid, process in tuple(self._members.items()):
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    living.append(process)
                    continue
            del self._members[pid]
        return living
