"""A worker's side of its keeper: start it, put an attempt under guard, start children, hold the card."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from farm.domain.errors import StageFailed
from farm.records.claims import Claim
from farm.sdk.child import ChildResult, ChildSpec
from farm.sdk.launcher import CardLockRequest, HeldCores
from farm.sdk.tree import MARK
from farm.worker import wire
from farm.worker.orphans import keeper_mark

#: How long one try for a card's lock lasts before the worker looks who has it.
LOCK_S = 5.0
#: Seconds between two looks whether the keeper is stopped.
STOPPED_S = 5.0


class Revoked(Exception):
    """The attempt is not this worker's any more, or is not to go on.

    why: cancelled, lost (a later attempt has it), stopping (the grace period is over), limit.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class KeeperGone(Exception):
    """The keeper died: this worker cannot guard its attempts and must end."""


class Guard:
    """The keeper of this process, as a `Launcher` for the stages (farm.sdk.launcher)."""

    def __init__(self, redis_url: str, home: Path, outbox: Path, log: Path, stop_fd: int | None) -> None:
        self._home = home
        self._channel, theirs = wire.pair()
        fds = [theirs.fileno(), *([stop_fd] if stop_fd is not None else [])]
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "farm.worker.keeper",
                    str(theirs.fileno()),
                    "-" if stop_fd is None else str(stop_fd),
                    str(outbox),
                    str(home),
                ],
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={**os.environ, "FARM_REDIS_URL": redis_url},
                start_new_session=True,
            )
        theirs.close()
        self._before_run: Callable[[], bool] = _always
        #: Whether the records know who has the card: a hold waits for them, not for a stranger.
        self.card_known: Callable[[], bool] = _always

    @property
    def pid(self) -> int:
        """The keeper's process."""
        return self._process.pid

    def wait(self) -> int:
        """Wait until the keeper ends; its exit status. One found stopped (SIGSTOP) twice is ended."""
        looks = 0
        while True:
            try:
                return self._process.wait(STOPPED_S)
            except subprocess.TimeoutExpired:
                looks = looks + 1 if psutil.Process(self.pid).status() == psutil.STATUS_STOPPED else 0
                if looks == 2:
                    self._process.kill()

    def register(self, identity: dict[str, Any]) -> None:
        """Make this worker known: what Fleet.register takes, its Celery's pid, its card's facts."""
        self._ask({"op": "register", "identity": identity}, "registered")

    @contextmanager
    def attempt(self, claim: Claim, limit_s: float | None, before_run: Callable[[], bool]) -> Iterator[None]:
        """Guard the attempt for the length of the block.

        limit_s: start to finish, None where the children's own limits do. before_run: called when the card is
        held; False means that another has the stage.
        """
        self._before_run = before_run
        self._send(
            {
                "op": "guard",
                "stage": claim.stage,
                "token": claim.token,
                "kind": claim.kind,
                "failures": dict(claim.failures),
                "limit_s": limit_s,
            }
        )
        try:
            yield
        except KeeperGone:
            raise
        except BaseException:
            self._release()
            raise
        self._release()

    def _release(self) -> None:
        self._before_run = _always
        self._ask({"op": "release"}, "released")

    def check(self) -> None:
        """Raises Revoked when the attempt under guard has been revoked."""
        why = self._ask({"op": "revoked?"}, "revoked")["why"]
        if why:
            raise Revoked(why)

    def run(self, spec: ChildSpec) -> ChildResult:
        """See farm.sdk.launcher.Launcher.run. Raises Revoked when it was ended from outside."""
        self._start("start", spec)
        result = wire.result_from_json(self._await("ended")["result"])
        if result.ended == "stopped":
            self.check()
        return result

    def start_exporter(self, spec: ChildSpec, fds: tuple[int, ...]) -> int:
        """Start the warm exporter with the descriptors given; it outlives attempts. Its pid."""
        return self._start("exporter", spec, fds)

    def exporter_fate(self) -> ChildResult | None:
        """How the exporter that was started last ended, once it has; None where there was none."""
        result = self._ask({"op": "exporter's fate"}, "exporter's fate")["result"]
        return None if result is None else wire.result_from_json(result)

    def _start(self, op: str, spec: ChildSpec, fds: tuple[int, ...] = ()) -> int:
        try:
            mark = keeper_mark(self._home, self.pid)
        except psutil.NoSuchProcess as error:
            raise KeeperGone(f"keeper {self.pid} is gone") from error
        marked = replace(spec, env={**(os.environ if spec.env is None else spec.env), MARK: mark})
        self._send({"op": op, "spec": wire.spec_to_json(marked)}, fds)
        answer = self._await("started", "ended")
        if answer["event"] == "ended":
            raise StageFailed("host", answer["error"], str(spec.log))
        return int(answer["pid"])

    @contextmanager
    def hold(self, card: CardLockRequest, wait_s: float) -> Iterator[HeldCores]:
        """See farm.sdk.launcher.Launcher.hold. While the records know who has the card, it waits on."""
        request = wire.request_to_json(card)
        while True:
            known = self.card_known()
            answer = self._ask({"op": "hold", "request": request, "wait_s": min(wait_s, LOCK_S)}, "lock")
            if answer["held"] is not None:
                break
            self.check()
            if answer["kind"] != "busy":
                raise StageFailed(answer["kind"], answer["error"])
            if not (known or self.card_known()):
                raise StageFailed("busy", answer["error"])
        try:
            if not self._before_run():
                raise Revoked("lost")
            yield HeldCores(card, tuple(answer["held"]) or None)
        finally:
            self._ask({"op": "drop"}, "dropped")

    def close(self) -> None:
        """End the keeper with this worker: it sees the channel close."""
        self._channel.close()
        self._process.wait()

    def _ask(self, message: dict[str, Any], event: str) -> dict[str, Any]:
        self._send(message)
        return self._await(event)

    def _send(self, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        try:
            wire.send(self._channel, message, fds)
        except OSError as error:
            raise KeeperGone(f"keeper {self.pid} is gone: {error}") from error

    def _await(self, *events: str) -> dict[str, Any]:
        while True:
            received = wire.receive(self._channel)
            if received is None:
                raise KeeperGone(f"keeper {self.pid} is gone")
            if received[0]["event"] in events:
                return received[0]


def _always() -> bool:
    return True
