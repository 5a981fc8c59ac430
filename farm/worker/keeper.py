"""The keeper: the small process beside each worker process that guards its attempts, one at a time.

It renews the lease, holds the card's lock, starts and ends the SDK's tools and the exporter, carries
cancellation and grace, and hands the attempt back when the worker is gone. It does no work of its own,
so nothing a stage does can starve the lease. Messages: see `client.py`, the other side.
"""

from __future__ import annotations

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

from farm.domain.errors import BadInput, StageFailed
from farm.sdk.child import Child
from farm.sdk.launcher import CardLockRequest, lock_taken, try_hold
from farm.sdk.lock import CardLock
from farm.worker import wire
from farm.worker.link import Attempt, Link
from farm.worker.outbox import Outbox

BEAT_S = 2.0
RENEW_S = 1.0
#: How often children are held against their limits, and a busy card's lock is tried.
CHECK_S = 0.5
LOCK_TRY_S = 0.02
#: TERM to KILL when an attempt is revoked: with RENEW_S a cancelled run ends within 7 s.
STOP_S = 4.0
#: What a stopping worker may still take for the attempt at hand (FARM_GRACE_S).
GRACE_S = 30.0


@dataclass
class LockWait:
    """A card's lock that is asked for and not yet held."""

    lock: CardLock
    request: CardLockRequest
    deadline: float


class Keeper:
    """One select loop over the worker's channel, the stop pipe and the children's pidfds."""

    def __init__(
        self, channel: socket.socket, stop_fd: int | None, link: Link, outbox: Outbox, grace_s: float
    ) -> None:
        self.channel = channel
        self.stop_fd = stop_fd
        self.outbox = outbox
        self.grace_s = grace_s
        self.link = link
        self.attempt: Attempt | None = None
        self.child: Child | None = None
        self.exporter: Child | None = None
        self.lock: CardLock | None = None
        self.waiting: LockWait | None = None
        self.grace_ends: float | None = None
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
                self.next_beat = 0.0
                self._beat()
                self._say({"event": "registered"})
            case "guard":
                now = time.monotonic()
                self.attempt = Attempt(
                    stage=message["stage"],
                    token=message["token"],
                    failures=message["failures"],
                    cards_failed=message["cards_failed"],
                    uses_exporter=message["kind"] == "export",
                    ends=now + message["limit_s"] if message["limit_s"] else None,
                )
                self.next_renew = now + RENEW_S
                if self.stopping:
                    self.grace_ends = now + self.grace_s
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
            self.exporter = None

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

    def _clear(self) -> None:
        """The attempt is over, however it ended: nothing of it goes on."""
        if self.waiting is not None:
            self.waiting.lock.release()
            self.waiting = None
        if self.child is not None:
            self._end(self.child)
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
        if self.attempt is not None:
            self.grace_ends = time.monotonic() + self.grace_s
        self.link.stopping()

    def _beat(self) -> None:
        self.next_beat = time.monotonic() + BEAT_S
        if not self.stopping:
            self.link.beat(self.attempt)

    def _end(self, child: Child) -> None:
        if child.pid not in self.exited:
            self.watch.unregister(child.fileno())
        self.exited.discard(child.pid)
        child.stop("stopped", STOP_S)
        while child.wait(0.1) is None:
            pass

    def _worker_gone(self) -> None:
        """End what it started, then report its outcome if it left one, else hand the attempt back."""
        self._clear()
        if self.exporter is not None:
            self._end(self.exporter)
        self.link.farewell(self.attempt, self.outbox, stopping=self.stopping)


def _pass_over(number: int, frame: FrameType | None) -> None:
    """A signal that changes nothing."""


def main(argv: list[str]) -> None:
    """keeper CHANNEL_FD STOP_FD|- OUTBOX HOME; FARM_REDIS_URL says where the records are."""
    # The worker decides when its keeper ends. Not SIG_IGN: the children would inherit that, and be deaf too.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, _pass_over)
    channel = socket.socket(fileno=int(argv[0]))
    stop_fd = None if argv[1] == "-" else int(argv[1])
    grace_s = float(os.environ.get("FARM_GRACE_S") or GRACE_S)
    link = Link(os.environ["FARM_REDIS_URL"], Path(argv[3]))
    Keeper(channel, stop_fd, link, Outbox(Path(argv[2])), grace_s).run()


if __name__ == "__main__":
    main(sys.argv[1:])
