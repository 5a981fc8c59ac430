"""Starts processes, restarts those that end, and stops them in order."""

from __future__ import annotations

import ctypes
import logging
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

log = logging.getLogger(__name__)

#: A process that ends is started again after this long, doubling up to the limit while it keeps ending.
BACKOFF_S = 0.5
BACKOFF_LIMIT_S = 15.0
#: One that lived this long has recovered: its back-off starts over.
STABLE_S = 30.0

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def _end_with_parent() -> None:
    """In the child: TERM when the supervisor dies, however it dies."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass
class Role:
    """A process that is to be there. stop_s: how long it may take to end after TERM."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path
    stop_s: float
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    backoff: float = BACKOFF_S
    restart_at: float = 0.0
    restarts: int = field(default=0)

    def start(self) -> None:
        """Start it, its output appended to its log."""
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(
                list(self.argv),
                env=dict(self.env),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        self.started = time.monotonic()

    def look(self, now: float) -> None:
        """Start it again when it has ended and its back-off is over."""
        if self.process is None:
            if now >= self.restart_at:
                self.restarts += 1
                self.start()
            return
        code = self.process.poll()
        if code is None:
            return
        self.backoff = BACKOFF_S if now - self.started > STABLE_S else min(self.backoff * 2, BACKOFF_LIMIT_S)
        log.warning("%s ended with %s; again in %.1f s (log: %s)", self.name, code, self.backoff, self.log)
        self.process, self.restart_at = None, now + self.backoff


class Supervisor:
    """The roles of one host, in the order they start; stopped in groups, last first."""

    def __init__(self) -> None:
        self.groups: list[list[Role]] = []

    def start(self, roles: Sequence[Role]) -> None:
        """Start a group of roles."""
        self.groups.append(list(roles))
        for role in roles:
            role.start()

    def run(self, stop: threading.Event) -> None:
        """Keep all roles alive until `stop` is set."""
        while not stop.wait(0.2):
            now = time.monotonic()
            for role in (r for group in self.groups for r in group):
                role.look(now)

    def stop(self) -> None:
        """TERM to each group, last first; KILL to what has not ended in its time."""
        for group in reversed(self.groups):
            running = [r for r in group if r.process is not None and r.process.poll() is None]
            for role in running:
                assert role.process is not None
                role.process.terminate()
            deadline = time.monotonic()
            for role in running:
                assert role.process is not None
                try:
                    role.process.wait(max(0.1, deadline + role.stop_s - time.monotonic()))
                except subprocess.TimeoutExpired:
                    log.warning("%s did not end within %.0f s of TERM: killed", role.name, role.stop_s)
                    role.process.kill()
                    role.process.wait()
