"""The exporter: a warm child process that loads the heavy libraries once and exports model after model."""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL
from typing import Any, Protocol

from farm.domain.errors import StageFailed
from farm.sdk.child import CHECK_S, Child, ChildResult, ChildSpec, Ended

#: What a child must not see: it reads local folders, and may run a stranger's graph code.
_SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "FARM_REDIS_URL", "FARM_BROKER_URL")
_MAX_ANSWER = 1024 * 1024


class ChildProcess(Protocol):
    """What the exporter asks of a process it guards itself; `farm.sdk.child.Child` is one."""

    def check(self, now: float | None = None) -> None:
        """Enforces the limits of its specification."""

    def stop(self, reason: Ended = "stopped", grace_s: float = ...) -> None:
        """Ends the process and what it started."""

    def wait(self, timeout_s: float = ...) -> ChildResult | None:
        """How it ended, None when it still runs after `timeout_s`."""


#: Starts the child with the given descriptor inherited. None: somebody else guards it and ends it.
Start = Callable[[ChildSpec, int], "ChildProcess | None"]


def start_directly(spec: ChildSpec, fd: int) -> Child:
    """Starts the child from this process, which then guards it."""
    return Child(spec, pass_fds=(fd,))


def _unknown() -> None:
    """Nobody tells how a child ended that somebody else guards."""


class ExportFailed(StageFailed):
    """An export failed for the model's own sake; needs_opset: the opset that has what it lacked."""

    def __init__(self, message: str, log: str, needs_opset: int | None = None) -> None:
        super().__init__("input", message, log)
        self.needs_opset = needs_opset


class Exporter:
    """Exports one model at a time through a child that is started when first needed.

    The child is replaced after `max_exports` exports, or once it keeps more than `max_rss_bytes`, or after
    a model's own code ran in it. `limit_s` and `memory_bytes` bound one export where this process guards
    the child; else `fate` tells how it ended. Not for use by two threads at once.
    """

    def __init__(
        self,
        start: Start | None = None,
        max_exports: int = 32,
        max_rss_bytes: int = 3 * 1024**3,
        limit_s: float = 3600.0,
        memory_bytes: int | None = None,
        fate: Callable[[], ChildResult | None] = _unknown,
    ) -> None:
        self._start = start or start_directly
        self._max_exports = max_exports
        self._max_rss_bytes = max_rss_bytes
        self._limit_s = limit_s
        self._memory_bytes = memory_bytes
        self._fate = fate
        self._channel: socket.socket | None = None
        self._process: ChildProcess | None = None
        self._exports = 0

    def __enter__(self) -> Exporter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def export(self, request: dict[str, Any], log: Path) -> dict[str, Any]:
        """Sends one request (see `farm.stages.export`) and returns the child's facts.

        Raises ExportFailed (kind "input") for what the model is to blame for, StageFailed("host") when the
        child is killed or the host runs out of something.
        """
        own_code = bool(request["trust_remote_code"])
        if own_code:
            self.close()
        answer = self._ask({**request, "log": str(log)}, log, own_code)
        self._exports += 1
        worn = self._exports >= self._max_exports or answer["rss_bytes"] > self._max_rss_bytes
        if worn or own_code:
            self.close()
        if "error" not in answer:
            facts: dict[str, Any] = answer["facts"]
            return facts
        if answer["kind"] == "input":
            raise ExportFailed(answer["error"], str(log), answer.get("needs_opset"))
        raise StageFailed(answer["kind"], answer["error"], str(log))

    def close(self) -> None:
        """Ends the child; it sees the end of its channel, and is killed if that is not enough."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None and self._process.wait(5.0) is None:
            self._end("stopped")
        self._process = None
        self._exports = 0

    def _ask(self, request: dict[str, Any], log: Path, own_code: bool) -> dict[str, Any]:
        line = json.dumps(request).encode() + b"\n"
        channel = self._channel or self._open(log, own_code)
        # A child that died between two exports is nobody's failure: one fresh child gets the request.
        try:
            channel.sendall(line)
        except OSError:
            self.close()
            channel = self._open(log, own_code)
            with contextlib.suppress(OSError):  # gone again: the answer that does not come says so
                channel.sendall(line)
        return self._answer(channel, log)

    def _open(self, log: Path, own_code: bool) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            spec = ChildSpec(
                argv=[sys.executable, "-m", "farm.stages.export_child"],
                cwd=log.parent,
                log=log,
                limit_s=math.inf,  # it outlives many exports; each has its own limit
                env=_environment(own_code),
                memory_bytes=self._memory_bytes,
            )
            try:
                self._process = self._start(spec, theirs.fileno())
            except BaseException:
                ours.close()
                raise
        self._channel = ours
        return ours

    def _answer(self, channel: socket.socket, log: Path) -> dict[str, Any]:
        ends = time.monotonic() + self._limit_s
        received = bytearray()
        try:
            while not received.endswith(b"\n"):
                readable, _, _ = select.select([channel], [], [], CHECK_S)
                if readable:
                    part = self._receive(channel)
                    if not part or len(received) > _MAX_ANSWER:
                        raise self._lost(log)
                    received += part
                elif self._process is not None:
                    self._process.check()
                    if time.monotonic() > ends:
                        raise self._too_long(log)
        except BaseException:
            if self._process is not None:
                self._end("stopped")
                self._process = None
            self.close()
            raise
        answer: dict[str, Any] = json.loads(received)
        return answer

    @staticmethod
    def _receive(channel: socket.socket) -> bytes:
        try:
            return channel.recv(65536)
        except ConnectionResetError:
            return b""

    def _end(self, reason: Ended) -> ChildResult | None:
        if self._process is None:
            return None
        self._process.stop(reason)
        while (result := self._process.wait(CHECK_S)) is None:
            pass
        return result

    def _lost(self, log: Path) -> StageFailed:
        # Its end of the channel closes a moment before it is gone: let it go in its own way.
        result = self._fate() if self._process is None else self._process.wait(5.0) or self._end("stopped")
        self._process = None
        if result is not None and result.ended == "memory":
            limit = (self._memory_bytes or 0) / 1024**3
            return StageFailed(
                "input", f"the export needs more than its memory limit of {limit:.1f} GiB", str(log)
            )
        signal = result.signal if result is not None else None
        how = "ended without an answer" if signal is None else f"was killed by signal {signal}"
        return StageFailed(
            "host",
            f"the exporter's child {how}; its log has the last it said",
            str(log),
            out_of_memory=result is not None and result.ended == "exit" and signal == SIGKILL,
        )

    def _too_long(self, log: Path) -> StageFailed:
        self._end("limit")
        self._process = None
        return StageFailed(
            "input", f"the export took longer than its limit of {self._limit_s:.0f} s", str(log)
        )


def _environment(own_code: bool) -> dict[str, str]:
    """The child's environment: no tokens; offline, unless a model's own code may name a second repository."""
    env = dict(os.environ)
    for name in _SECRETS:
        env.pop(name, None)
    if not own_code:
        env["HF_HUB_OFFLINE"] = "1"
    env["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"
    env["HF_HUB_DISABLE_TELEMETRY"] = "1"
    env["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    env["DISABLE_SAFETENSORS_CONVERSION"] = "1"
    env["TOKENIZERS_PARALLELISM"] = "false"
    # Every weight on pages of its own, so that one freed goes back to the system at once.
    env["MALLOC_MMAP_THRESHOLD_"] = str(1024 * 1024)
    return env
