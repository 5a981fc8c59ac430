"""`qaicrt` by hand: Program, ExecObj and Queue. Source: docs/sdk.md, "qaicrt"."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import Any

from . import api
from .rt import Context, Qpc, decode, encode
from .rt_types import QAicProgramProperties, QAicQueueProperties, QBuffer, QProgramStatus, QStatus

__all__ = ["ExecObj", "Program", "Queue"]


class Program:
    """A program on a device, by hand: load, activate, then ExecObj and Queue."""

    def __init__(
        self, context: Context, dev: int, qpc: Qpc, properties: QAicProgramProperties | None = None
    ) -> None:
        self.program = qpc.program
        self.active: api.Active | None = None
        self._dev = dev
        self._status = QProgramStatus.QPS_INIT

    def __del__(self) -> None:
        if getattr(self, "active", None) is not None:
            self.deactivate()

    def load(self) -> QStatus:
        """Load; takes nothing exclusive."""
        self._status = QProgramStatus.QPS_LOADED
        return QStatus.QS_SUCCESS

    def unload(self) -> QStatus:
        """Undo load."""
        self._status = QProgramStatus.QPS_INIT
        return self.deactivate()

    def activate(self) -> QStatus:
        """Take the card's resources; QS_DEV_ERROR when it refuses."""
        try:
            self.active = self.active or api.Active(self.program, self._dev, 1, 1)
        except RuntimeError as error:
            print(error)
            self._status = QProgramStatus.QPS_ERROR
            return QStatus.QS_DEV_ERROR
        self._status = QProgramStatus.QPS_FULLY_ACTIVATED
        return QStatus.QS_SUCCESS

    def deactivate(self) -> QStatus:
        """Give them back."""
        active, self.active = self.active, None
        if active is not None:
            active.close()
            self._status = QProgramStatus.QPS_LOADED
        return QStatus.QS_SUCCESS

    def getStatus(self) -> QProgramStatus:
        """Where the program stands."""
        return self._status


class ExecObj:
    """One inference of a Program, by hand."""

    _numbers = itertools.count()

    def __init__(self, context: Context, program: Program) -> None:
        self._owner = program
        self._buffers: list[QBuffer] = []
        self._request: api.Request | None = None

    def setData(self, buffers: Sequence[Any]) -> QStatus:
        """All buffers, in binding order."""
        self._buffers = [QBuffer(buffer) for buffer in buffers]
        return QStatus.QS_SUCCESS

    def start(self) -> QStatus:
        """Submit; the program's queue is waited for."""
        inputs = decode(self._owner.program, self._buffers)
        if inputs is None:
            return QStatus.QS_INVAL
        active = self._owner.active
        if active is None:
            return QStatus.QS_ERROR
        self._request = request = api.Request(next(self._numbers), inputs)

        def finish() -> None:
            active.take(request.number)
            active.release(request)

        active.acquire()
        active.submit(request)
        threading.Thread(target=finish, daemon=True).start()
        return QStatus.QS_SUCCESS

    def run(self) -> QStatus:
        """Submit and wait."""
        status = self.start()
        return status if status != QStatus.QS_SUCCESS else self.waitForCompletion()

    def waitForCompletion(self) -> QStatus:
        """Wait for the inference."""
        if self._request is None:
            return QStatus.QS_INVAL
        self._request.done.wait()
        return QStatus.QS_SUCCESS if self._request.error is None else QStatus.QS_DEV_ERROR

    def getData(self) -> tuple[QStatus, list[QBuffer]]:
        """(status, buffers in binding order) of the completed inference."""
        if self._request is None or not self._request.done.is_set():
            return QStatus.QS_AGAIN, []
        if self._request.error is not None:
            return QStatus.QS_DEV_ERROR, []
        return QStatus.QS_SUCCESS, encode(self._owner.program, self._request)


class Queue:
    """Feeds a Program with ExecObj."""

    def __init__(
        self, context: Context, program: Program, properties: QAicQueueProperties | None = None
    ) -> None:
        self._program = program

    def enqueue(self, obj: ExecObj) -> QStatus:
        """Submit it."""
        return obj.start()
