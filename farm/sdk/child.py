"""One child process and everything it starts: begun, watched against its limits, and ended as a whole.

A `Child` never blocks and owns no thread, so that one select loop can guard it beside other work.
"""

from __future__ import annotations

import os
import select
import signal as signals
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from farm.domain.errors import StageFailed
from farm.sdk.tree import MARK, Tree

Ended = Literal["exit", "limit", "idle", "memory", "stopped"]

#: Seconds between TERM and KILL, and between KILL and giving a process up as unkillable.
GRACE_S = 5.0
#: Seconds between two looks at a child.
CHECK_S = 0.5
#: Less CPU time than this is a timer ticking, not progress.
_PROGRESS_CPU_S = 0.05


@dataclass(frozen=True)
class ChildSpec:
    """What to start and its limits.

    log receives stdout and stderr (appended). env is the whole environment, None for this process's own.
    limit_s: from start to finish. idle_s: without log growth and CPU time. memory_bytes: resident size of the
    whole tree. An environment that carries FARM_CHILD_MARK keeps it; else a fresh mark is set.
    """

    argv: Sequence[str]
    cwd: Path
    log: Path
    limit_s: float
    env: Mapping[str, str] | None = None
    idle_s: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class ChildResult:
    """How a child ended. Exactly one of returncode and signal is set, neither for a child that outlives KILL.

    ended says whose doing it was: "exit" its own, "stopped" the caller's, else the limit that was passed.
    survivors: processes of the tree that outlived KILL (stuck in the kernel; they may still hold the card).
    """

    returncode: int | None
    signal: int | None
    ended: Ended
    seconds: float
    peak_rss_bytes: int
    log: Path
    survivors: tuple[int, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the child ended by itself with status 0."""
        return self.ended == "exit" and self.returncode == 0


class Child:
    """A running child. Call `check` about each `CHECK_S` and when `fileno` gets readable; then ask `done`.

    Raises StageFailed("host") where the program cannot be started.
    """

    def __init__(self, spec: ChildSpec, pass_fds: Iterable[int] = ()) -> None:
        self.spec = spec
        env = dict(os.environ if spec.env is None else spec.env)
        if env.get(MARK) in (None, os.environ.get(MARK)):  # never the mark of a tree this process is in
            env[MARK] = uuid.uuid4().hex
        self.mark = env[MARK]
        try:
            with spec.log.open("ab") as log:
                self._process = subprocess.Popen(
                    list(spec.argv),
                    cwd=spec.cwd,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=tuple(pass_fds),
                )
        except OSError as error:
            raise StageFailed("host", f"cannot start {spec.argv[0]}: {error}", str(spec.log)) from error
        self.pid = self._process.pid
        self._pidfd = os.pidfd_open(self.pid)
        self._tree = Tree(self.pid, self.mark)
        self._started = self._progress_at = time.monotonic()
        self._log_bytes = 0
        self._cpu_s = 0.0
        self._peak = 0
        self._status: int | None = None
        self._seconds: float | None = None
        self._ended: Ended | None = None
        self._kill_at: float | None = None
        self._give_up_at: float | None = None
        self._result: ChildResult | None = None

    def fileno(self) -> int:
        """A descriptor that becomes readable when the child itself exits. Valid until `done` has a result."""
        return self._pidfd

    def check(self, now: float | None = None) -> None:
        """Enforce the limits and carry an ending on. now: `time.monotonic()`."""
        if self._result is not None:
            return
        now = time.monotonic() if now is None else now
        self._reap(now)
        if self._status is None:
            self._watch(now)
        else:
            members = self._tree.alive()
            if not members:
                self._finish(())
            elif self._kill_at is None:
                self._end(now, GRACE_S)  # left-overs of a child that is gone
        if self.done() is None and self._kill_at is not None and now >= self._kill_at:
            self._kill(now)

    def stop(self, reason: Ended = "stopped", grace_s: float = GRACE_S) -> None:
        """Ask the whole tree to end (TERM); `check` sends KILL when grace_s has passed. Returns at once."""
        if self._result is None and self._status is None and self._ended is None:
            self._ended = reason
            self._end(time.monotonic(), grace_s)

    def done(self) -> ChildResult | None:
        """The result, once the child and all it started are gone (or could not be killed)."""
        return self._result

    def wait(self, timeout_s: float = CHECK_S) -> ChildResult | None:
        """Sleep until the child exits or timeout_s has passed, check once, and answer as `done`."""
        if self._result is None:
            if self._status is None:
                poll = select.poll()
                poll.register(self._pidfd, select.POLLIN)
                poll.poll(timeout_s * 1000)
            else:
                time.sleep(min(timeout_s, 0.02))  # only left-overs remain, and they have no descriptor
            self.check()
        return self._result

    def _reap(self, now: float) -> None:
        if self._status is not None:
            return
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if pid:
            self._status = status
            self._seconds = now - self._started
            self._process.returncode = os.waitstatus_to_exitcode(status)
            self._peak = max(self._peak, usage.ru_maxrss * 1024)

    def _watch(self, now: float) -> None:
        usage = self._tree.usage()
        self._peak = max(self._peak, usage.rss_bytes)
        try:
            log_bytes = self.spec.log.stat().st_size
        except FileNotFoundError:  # somebody tidied up: the child goes on, its CPU time tells of progress
            log_bytes = 0
        if log_bytes != self._log_bytes or usage.cpu_s - self._cpu_s >= _PROGRESS_CPU_S:
            self._log_bytes, self._cpu_s, self._progress_at = log_bytes, usage.cpu_s, now
        memory, idle = self.spec.memory_bytes, self.spec.idle_s
        if now - self._started > self.spec.limit_s:
            self.stop("limit")
        elif memory is not None and usage.rss_bytes > memory:
            self.stop("memory", grace_s=0)
        elif idle is not None and now - self._progress_at > idle:
            self.stop("idle")

    def _end(self, now: float, grace_s: float) -> None:
        self._kill_at = now + grace_s
        self._tree.signal(signals.SIGTERM)

    def _kill(self, now: float) -> None:
        if self._give_up_at is None:
            self._give_up_at = now + GRACE_S
        if now < self._give_up_at:
            self._tree.signal(signals.SIGKILL)
        else:
            self._finish(tuple(sorted(self._tree.alive())))

    def _finish(self, survivors: tuple[int, ...]) -> None:
        code = None if self._status is None else os.waitstatus_to_exitcode(self._status)
        os.close(self._pidfd)
        self._pidfd = -1
        self._result = ChildResult(
            returncode=code if code is not None and code >= 0 else None,
            signal=-code if code is not None and code < 0 else None,
            ended=self._ended or "exit",
            seconds=time.monotonic() - self._started if self._seconds is None else self._seconds,
            peak_rss_bytes=self._peak,
            log=self.spec.log,
            survivors=survivors,
        )


def run_child(
    spec: ChildSpec, pass_fds: Iterable[int] = (), cancelled: Callable[[], bool] | None = None
) -> ChildResult:
    """Run a child to its end. cancelled is asked about each `CHECK_S`; True stops the child."""
    child = Child(spec, pass_fds)
    try:
        while (result := child.wait()) is None:
            if cancelled is not None and cancelled():
                child.stop("stopped")
    except BaseException:  # also KeyboardInterrupt: nothing this process started may stay behind
        child.stop("stopped", grace_s=0)
        while child.wait() is None:
            pass
        raise
    return result
