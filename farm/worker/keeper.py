"""The keeper: the small process beside each worker process that guards its attempts, one at a time.

It renews the lease, holds the card's lock, starts and ends the SDK's tools and the exporter, carries
cancellation and grace, and hands the attempt back when the worker is gone. It does no work of its own,
so nothing a stage does can starve the lease. A worker that is silent for too long it ends: whoever
supervises the worker starts another. Messages: see `client.py`, the other side.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from farm.domain.errors import BadInput, StageFailed
from farm.sdk.child import Child, ChildResult
from farm.sdk.launcher import CardLockRequest, lock_taken, try_hold
from farm.sdk.lock import CardLock
from farm.worker import wire
from farm.worker.link import Attempt, Link
from farm.worker.outbox import Outbox
from farm.worker.pulse import LEAVE_S, Patience, Pulse

log = logging.getLogger(__name__)

BEAT_S = 2.0
RENEW_S = 1.0
#: How often children are held against their limits, and a busy card's lock is tried.
CHECK_S = 0.5
LOCK_TRY_S = 0.02
#: TERM to KILL when an attempt is revoked: with RENEW_S a cancelled run ends within 7 s.
STOP_S = 4.0
#: The same when the worker is gone: its attempt is to be handed back within 2 s.
ORPHAN_STOP_S = 1.0
#: From the end of the exporter's channel to that of its process.
EXPORTER_ENDS_S = 2.0


@dataclass
class LockWait:
    """A card's lock that is asked for and not yet held."""

    lock: CardLock
    request: CardLockRequest
    deadline: float


class Keeper:
    """One select loop over the worker's channel, the stop pipe and the children's pidfds."""

    def __init__(
        self, channel: socket.socket, stop_fd: int | None, link: Link, outbox: Outbox, patience: Patience
    ) -> None:
        self.channel = channel
        self.stop_fd = stop_fd
        self.outbox = outbox
        self.patience = patience
        self.link = link
        self.attempt: Attempt | None = None
        self.child: Child | None = None
        self.exporter: Child | None = None
        self.exporter_fate: ChildResult | None = None
        self.lock: CardLock | None = None
        self.waiting: LockWait | None = None
        self.grace_ends: float | None = None
        self.pulse: Pulse | None = None
        self.gone_by: float | None = None
        self.lost = "the worker process died; see its log and the kernel's"
        self.stopping = False
        self.exited: set[int] = set()
        self.next_beat = self.next_renew = self.next_check = 0.0
        self.watch = selectors.DefaultSelector()
        self.watch.register(channel, selectors.EVENT_READ)
        if stop_fd is not None:
            self.watch.register(stop_fd, selectors.EVENT_READ)

    def run(self) -> None:
        """Guard until the worker is gone, then clean up after it."""
        while True:
            for key, _ in self.watch.select(self._pause()):
                if isinstance(key.data, Child):
                    self._reap(key.data)
                elif key.fileobj is self.channel:
                    received = wire.receive(self.channel)
                    if received is None:
                        self._worker_gone()
                        return
                    self._obey(*received)
                elif key.fileobj == self.stop_fd:
                    self._begin_stop()
            self._tend(time.monotonic())

    def _pause(self) -> float:
        if self.waiting is not None or self.exited:
            return LOCK_TRY_S
        return CHECK_S if self.attempt or self.child else min(CHECK_S * 2, BEAT_S)

    def _obey(self, message: dict[str, Any], fds: list[int]) -> None:
        match message["op"]:
            case "register":
                self.link.identity = message["identity"]
                self.pulse = Pulse(message["identity"]["pid"])
                self.next_beat = 0.0
                self._beat()
                self._say({"event": "registered"})
            case "guard":
                now = time.monotonic()
                self.attempt = Attempt(
                    stage=message["stage"],
                    token=message["token"],
                    failures=message["failures"],
                    uses_exporter=message["kind"] == "export",
                    ends=now + message["limit_s"] if message["limit_s"] else None,
                )
                self.next_renew = now + RENEW_S
                if self.stopping:
                    self.grace_ends = now + self.patience.grace_s
            case "release":
                self._clear()
                revoked = self.attempt.revoked if self.attempt else None
                self.attempt, self.grace_ends = None, None
                self._say({"event": "released", "revoked": revoked})
            case "revoked?":
                self._say({"event": "revoked", "why": self.attempt.revoked if self.attempt else None})
            case "start":
                held = (self.lock.fileno(),) if self.lock is not None else ()
                self.child = self._start(message["spec"], held)
            case "exporter":
                if self.exporter is not None:
                    self._end(self.exporter)
                self.exporter = self._start(message["spec"], tuple(fds))
                for fd in fds:
                    os.close(fd)
            case "exporter's fate":
                if self.exporter is not None:
                    # It has closed its channel: it is about to be gone.
                    self.exporter_fate = self._end(self.exporter, by_itself_s=EXPORTER_ENDS_S)
                    self.exporter = None
                fate = self.exporter_fate and wire.result_to_json(self.exporter_fate)
                self._say({"event": "exporter's fate", "result": fate})
            case "hold":
                request = wire.request_from_json(message["request"])
                try:
                    lock = CardLock(request.folder, request.pci_address, request.nsp_total)
                except BadInput as error:
                    self._say({"event": "lock", "held": None, "kind": "host", "error": str(error)})
                    return
                self.waiting = LockWait(lock, request, time.monotonic() + message["wait_s"])
            case "drop":
                self._unlock()
                self._say({"event": "dropped"})
            case other:
                raise ValueError(f"the keeper does not know {other!r}")

    def _start(self, spec: dict[str, Any], fds: tuple[int, ...]) -> Child | None:
        try:
            child = Child(wire.spec_from_json(spec), pass_fds=fds)
        except StageFailed as error:
            self._say({"event": "ended", "error": str(error)})
            return None
        self.watch.register(child.fileno(), selectors.EVENT_READ, child)
        self._say({"event": "started", "pid": child.pid})
        return child

    def _say(self, message: dict[str, Any]) -> None:
        try:
            wire.send(self.channel, message)
        except OSError:
            # The worker is gone; the loop sees its end of the channel next.
            self.stopping = True

    def _tend(self, now: float) -> None:
        if self.waiting is not None:
            self._try_lock(now)
        for child in (self.child, self.exporter):
            if child is not None:
                self._look_after(child, now)
        if now >= self.next_check:
            self.next_check = now + CHECK_S
            self._look_at_worker(now)
        if self.grace_ends is not None and now >= self.grace_ends:
            self.grace_ends = None
            self._revoke("stopping")
        attempt = self.attempt
        if attempt is not None and attempt.ends is not None and now >= attempt.ends:
            self._revoke("limit")
        if attempt is not None and attempt.revoked is None and now >= self.next_renew:
            self.next_renew = now + RENEW_S
            answer = self.link.renew(attempt)
            if answer != "ok":
                self._revoke(answer)
        if now >= self.next_beat:
            self._beat()

    def _reap(self, child: Child) -> None:
        """The child exited: its descriptor has said all it can; what it left behind is watched by time."""
        self.watch.unregister(child.fileno())
        self.exited.add(child.pid)
        child.check()

    def _look_after(self, child: Child, now: float) -> None:
        if now >= self.next_check or child.pid in self.exited:
            child.check(now)
        result = child.done()
        if result is None:
            return
        self.exited.discard(child.pid)
        if child is self.child:
            self.child = None
            self._say({"event": "ended", "result": wire.result_to_json(result)})
        else:
            self.exporter, self.exporter_fate = None, result

    def _try_lock(self, now: float) -> None:
        wait = self.waiting
        if wait is None:
            return
        revoked = self.attempt.revoked if self.attempt else None
        held = None if revoked else try_hold(wait.lock, wait.request)
        if held is not None:
            self.lock, self.waiting = wait.lock, None
            self._say({"event": "lock", "held": list(held.cores) if held.cores else []})
        elif revoked or now >= wait.deadline:
            error = str(lock_taken(wait.lock))
            wait.lock.release()
            self.waiting = None
            self._say({"event": "lock", "held": None, "kind": "busy", "error": error})

    def _clear(self, stop_s: float = STOP_S) -> None:
        """The attempt is over, however it ended: nothing of it goes on. stop_s: TERM to KILL."""
        if self.waiting is not None:
            self.waiting.lock.release()
            self.waiting = None
        if self.child is not None:
            self._end(self.child, stop_s)
            self.child = None
        self._unlock()

    def _unlock(self) -> None:
        if self.lock is not None:
            self.lock.release()
            self.lock = None

    def _revoke(self, why: str) -> None:
        """The attempt is not to go on: end what it started; the worker learns why when it asks."""
        if self.attempt is None or self.attempt.revoked:
            return
        self.attempt.revoked = why
        for child in (self.child, self.exporter if self.attempt.uses_exporter else None):
            if child is not None:
                child.stop("stopped", STOP_S)

    def _begin_stop(self) -> None:
        if self.stop_fd is not None:
            self.watch.unregister(self.stop_fd)
            self.stop_fd = None
        self.stopping = True
        now = time.monotonic()
        if self.attempt is not None:
            self.grace_ends = now + self.patience.grace_s
        self.gone_by = now + self.patience.grace_s + LEAVE_S
        self.link.stopping()

    def _beat(self) -> None:
        self.next_beat = time.monotonic() + BEAT_S
        if self.stopping:
            return
        unanswered_s = self.link.beat(self.attempt)
        # At a cancelled attempt or a golden run it is idle to the records, but not free.
        free = self.attempt is None and self.child is None and self.waiting is None
        if free and unanswered_s >= self.patience.silent_s:
            # Nobody can tell from here whether Celery or its pool process is deaf.
            self._end_worker(f"free, but left bells unanswered for {unanswered_s:.0f} s", celery_too=True)

    def _look_at_worker(self, now: float) -> None:
        """End a worker that does nothing though it is its turn, and one that does not stop."""
        if self.gone_by is not None and now >= self.gone_by:
            self.gone_by = None
            self._end_worker("told to stop, but did not end in its time")
        if self.pulse is None:
            return
        if self._may_wait():
            self.pulse.rest()
        elif self.pulse.silent_s(now, self._helper()) >= self.patience.stall_s:
            self.pulse.rest()
            self._end_worker(f"at an attempt, but did nothing for {self.patience.stall_s:.0f} s")

    def _may_wait(self) -> bool:
        """Whether the worker waits for a bell, a child, the card's lock or Redis."""
        return self.attempt is None or self.child is not None or self.waiting is not None or self.link.away

    def _helper(self) -> int | None:
        """The exporter that works for the worker."""
        used = self.attempt is not None and self.attempt.uses_exporter
        return self.exporter.pid if used and self.exporter is not None else None

    def _end_worker(self, why: str, *, celery_too: bool = False) -> None:
        """KILL the worker; the end of its channel is seen next. Celery replaces a pool process by itself."""
        me = self.link.identity
        if me is None:
            return
        self.lost = f"the worker was {why}"
        doomed = [me["pid"]]
        with contextlib.suppress(psutil.NoSuchProcess):
            # Only while it still is the parent: another process may have that pid by now.
            if celery_too and me["celery"] == psutil.Process(me["pid"]).ppid():
                doomed.insert(0, me["celery"])
        log.error(
            "worker %s (%s) was %s: killed %s; whoever supervises it starts another",
            me["worker"], ", ".join(me["queues"]), why, " and ".join(map(str, doomed)),
        )  # fmt: skip
        for pid in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _end(self, child: Child, stop_s: float = STOP_S, *, by_itself_s: float = 0.0) -> ChildResult:
        """Not before by_itself_s, which it may need to end by itself."""
        if child.pid not in self.exited:
            self.watch.unregister(child.fileno())
        self.exited.discard(child.pid)
        if by_itself_s:
            child.wait(by_itself_s)
        child.stop("stopped", stop_s)
        while (result := child.wait(0.1)) is None:
            pass
        return result

    def _worker_gone(self) -> None:
        """End what it started, then report its outcome if it left one, else hand the attempt back."""
        self._clear(ORPHAN_STOP_S)
        if self.exporter is not None:
            self._end(self.exporter, ORPHAN_STOP_S)
        self.link.farewell(self.attempt, self.outbox, stopping=self.stopping, lost=self.lost)


def _pass_over(number: int, frame: FrameType | None) -> None:
    """A signal that changes nothing."""


def main(argv: list[str]) -> None:
    """keeper CHANNEL_FD STOP_FD|- OUTBOX HOME; FARM_REDIS_URL says where the records are."""
    # The worker decides when its keeper ends. Not SIG_IGN: the children would inherit that, and be deaf too.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, _pass_over)
    channel = socket.socket(fileno=int(argv[0]))
    stop_fd = None if argv[1] == "-" else int(argv[1])
    logging.basicConfig(format="[%(asctime)s: %(levelname)s/%(name)s] %(message)s")
    link = Link(os.environ["FARM_REDIS_URL"], Path(argv[3]))
    Keeper(channel, stop_fd, link, Outbox(Path(argv[2])), Patience.from_environment()).run()


if __name__ == "__main__":
    main(sys.argv[1:])
