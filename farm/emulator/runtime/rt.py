"""`qaicrt`: contexts, programs and inferences. Source: docs/sdk.md, "qaicrt".

An InferenceSet has num_activations x set_size slots. `submit` takes one and waits for it; `putCompleted`
gives it back, and nothing else does. Requests complete in the order the card finishes them, not in that of
submission.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import api, engine, program, qpc
from .card import Cards
from .program import Array
from .rt_types import (
    BufferIoTypeEnum,
    BufferMapping,
    QAicProgramProperties,
    QBuffer,
    QIDList,
    QLogLevel,
    QStatus,
    data_type,
    numpy_type,
)

__all__ = [
    "Context",
    "InferenceBenchmarkSet",
    "InferenceHandle",
    "InferenceSet",
    "InferenceVector",
    "Qpc",
]

OK = QStatus.QS_SUCCESS


class Context:
    """A process's hold on devices: those listed, else all. Raises RuntimeError for one that is not there."""

    def __init__(self, qids: Sequence[int] | None = None) -> None:
        present = [device.qid for device in Cards(api.ROOT).devices()]
        self.qids = QIDList(present if qids is None else qids)
        for qid in self.qids:
            if qid not in present:
                raise RuntimeError(f"Invalid device:{qid}")
        self.log_level = QLogLevel.QL_ERROR

    def setLogLevel(self, level: QLogLevel) -> QStatus:
        """How much the context says; this one has nothing to say."""
        self.log_level = level
        return OK


class Qpc:
    """A program in the folder that holds its programqpc.bin. Raises RuntimeError when it is not whole."""

    def __init__(self, path: str) -> None:
        try:
            self.program = api.load(Path(path))
        except (OSError, qpc.BadQpc) as error:
            raise RuntimeError(f"Invalid qpc, failed to create qpc object: {error}") from error

    def getBufferMappings(self) -> list[BufferMapping]:
        """Every buffer, inputs and outputs, in the order of their indices."""
        return [
            BufferMapping(
                binding.name,
                binding.index,
                BufferIoTypeEnum.BUFFER_IO_TYPE_INPUT
                if binding.is_input
                else BufferIoTypeEnum.BUFFER_IO_TYPE_OUTPUT,
                binding.size,
                data_type(binding.dtype),
            )
            for binding in self.program.bindings
        ]


class InferenceVector:
    """The buffers of one inference, random until they are set: whole numbers 0 or 1, reals in [0, 1)."""

    def __init__(self, mappings: Sequence[BufferMapping]) -> None:
        random = np.random.default_rng()
        self._buffers = [_random_buffer(mapping, random) for mapping in mappings]

    def getVector(self) -> list[QBuffer]:
        """The buffers, to be read and replaced in place."""
        return self._buffers


def _random_buffer(mapping: BufferMapping, random: np.random.Generator) -> QBuffer:
    dtype = numpy_type(mapping.dataType)
    count = mapping.size // dtype.itemsize
    values = random.random(count) if dtype.kind == "f" else random.integers(0, 2, count)
    return QBuffer(values.astype(dtype))


def decode(loaded: program.Program, buffers: Sequence[bytes]) -> dict[str, Array] | None:
    """Inputs by name from buffers in binding order; None when one is missing or not of its size."""
    inputs = {}
    for binding in loaded.inputs:
        if binding.index >= len(buffers) or len(buffers[binding.index]) != binding.size:
            return None
        inputs[binding.name] = np.frombuffer(buffers[binding.index], binding.dtype).reshape(binding.dims)
    return inputs


def encode(loaded: program.Program, request: api.Request) -> list[QBuffer]:
    """All buffers of a computed request, in binding order."""
    values = {**request.inputs, **request.outputs}
    return [QBuffer(values[binding.name]) for binding in loaded.bindings]


class _Data:
    """The buffers of an inference that has completed."""

    def __init__(self, handle: InferenceHandle) -> None:
        self._handle = handle

    def getData(self) -> tuple[QStatus, list[QBuffer]]:
        """(status, buffers in binding order); to be read before the handle is put back."""
        return self._handle.data()


class InferenceHandle:
    """A slot of an InferenceSet, with the buffers of the inference in it."""

    def __init__(self, loaded: program.Program, request: api.Request | None = None) -> None:
        self._program = loaded
        self._buffers: list[QBuffer] = []
        self.request = request

    def setBuffers(self, buffers: Sequence[Any]) -> QStatus:
        """The buffers of the next inference, in binding order."""
        self._buffers = [QBuffer(buffer) for buffer in buffers]
        return OK

    def getBuffers(self) -> list[QBuffer]:
        """The buffers that were set."""
        return self._buffers

    def getId(self) -> int:
        """The id its inference was submitted with, -1 before."""
        return -1 if self.request is None else self.request.number

    def execObj(self) -> _Data:
        """What the inference gave."""
        return _Data(self)

    def data(self) -> tuple[QStatus, list[QBuffer]]:
        """The status and all buffers of its completed inference."""
        if self.request is None or not self.request.done.is_set():
            return QStatus.QS_AGAIN, []
        if self.request.error is not None:
            return QStatus.QS_DEV_ERROR, []
        return OK, encode(self._program, self.request)


class InferenceSet:
    """A program activated on a device, fed by `submit`. Raises RuntimeError when the card refuses."""

    def __init__(
        self,
        context: Context,
        qpc: Qpc,
        devId: int | None = None,
        setSize: int = 1,
        numActivations: int = 1,
        properties: QAicProgramProperties | None = None,
        enableProfiling: bool = False,
    ) -> None:
        self._program = qpc.program
        self._active = api.Active(
            qpc.program, context.qids[0] if devId is None else devId, numActivations, setSize
        )
        # No source says whether the completion calls wait: the scenario decides.
        self._wait = None if self._active.scenario.option("completed_waits") else 0.0

    def __del__(self) -> None:
        if hasattr(self, "_active"):
            self._active.close()

    def submit(self, vector: InferenceVector | InferenceHandle, id: int = 0) -> QStatus:
        """Queue an inference; waits for a slot, except with a handle of getAvailable, which is one."""
        reserved = isinstance(vector, InferenceHandle)
        buffers = vector.getBuffers() if isinstance(vector, InferenceHandle) else vector.getVector()
        inputs = decode(self._program, buffers)
        if inputs is None:
            return QStatus.QS_INVAL
        if not reserved:
            self._active.acquire()
        self._active.submit(api.Request(id, inputs))
        return OK

    def getAvailable(self, timeoutUs: int = 0) -> tuple[QStatus, InferenceHandle | None]:
        """A free slot, or QS_AGAIN when none comes free in time."""
        if not self._active.acquire(timeoutUs / 1e6):
            return QStatus.QS_AGAIN, None
        return OK, InferenceHandle(self._program)

    def getCompleted(self, timeoutUs: int | None = None) -> tuple[QStatus, InferenceHandle | None]:
        """The next inference to complete; QS_AGAIN when none is there in time."""
        return self._handle(self._active.take(timeout=self._wait if timeoutUs is None else timeoutUs / 1e6))

    def getCompletedId(self, id: int) -> tuple[QStatus, InferenceHandle | None]:
        """The inference submitted with that id; QS_AGAIN when there is none, or not yet."""
        return self._handle(self._active.take(id, self._wait))

    def _handle(self, request: api.Request | None) -> tuple[QStatus, InferenceHandle | None]:
        if request is None:
            return QStatus.QS_AGAIN, None
        status = OK if request.error is None else QStatus.QS_DEV_ERROR
        return status, InferenceHandle(self._program, request)

    def putCompleted(self, handle: InferenceHandle | None) -> QStatus:
        """Give the slot of a completed inference back."""
        if handle is None or handle.request is None:
            return QStatus.QS_INVAL
        self._active.release(handle.request)
        handle.request = None
        return OK

    def waitForCompletion(self) -> QStatus:
        """Wait until all that was submitted has completed."""
        self._active.drain()
        return OK


class InferenceBenchmarkSet:
    """The same inference over and over, in the runtime's own loop."""

    def __init__(
        self,
        context: Context,
        qpc: Qpc,
        devID: int | None = None,
        setSize: int = 1,
        numActivations: int = 1,
        inferenceDataVector: InferenceVector | None = None,
        properties: QAicProgramProperties | None = None,
    ) -> None:
        self._program = qpc.program
        self._shape = (context.qids[0] if devID is None else devID, numActivations, setSize)
        self._vector = inferenceDataVector
        self._active: api.Active | None = None
        self._last: engine.EngineResult | None = None
        self._rate = 0.0

    def enable(self) -> QStatus:
        """Activate."""
        self._active = self._active or api.Active(self._program, *self._shape)
        return OK

    def disable(self) -> QStatus:
        """Give the card back."""
        active, self._active = self._active, None
        if active is not None:
            active.close()
        return OK

    def __del__(self) -> None:
        if getattr(self, "_active", None) is not None:
            self.disable()

    def run(self, numInferences: int) -> QStatus:
        """Run that many inferences."""
        return self._run(engine.Until(count=numInferences))

    def runForDuration(self, duration: float) -> QStatus:
        """Run for that many seconds."""
        return self._run(engine.Until(seconds=duration))

    def _run(self, until: engine.Until) -> QStatus:
        if self._active is None:
            return QStatus.QS_ERROR
        inputs = self._program.random_inputs()
        if self._vector is not None:
            given = decode(self._program, self._vector.getVector())
            if given is None:
                return QStatus.QS_INVAL
            inputs = given
        self._last = self._active.benchmark(until, inputs)
        self._rate = self._active.rate(self._last)
        return OK

    def getLastRunStats(self) -> tuple[int, float, int, int]:
        """(inferences completed, rate, microseconds, batch size); the rate counts what the scenario says."""
        if self._last is None:
            return 0, 0.0, 0, self._program.batch_size
        return self._last.inferences, self._rate, self._last.duration_us, self._program.batch_size

    def getInfCompleted(self) -> int:
        """Batched executions of the last run."""
        return 0 if self._last is None else self._last.inferences

    def setLiveReporting(self, level: int, periodMs: int = 1000) -> QStatus:
        """Accepted; nothing is reported while running."""
        return OK
