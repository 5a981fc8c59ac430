"""Enumerations and plain values of `qaicrt`. Source: docs/sdk.md, "enumerations"; open runtime headers."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BufferDataTypeEnum",
    "BufferIoTypeEnum",
    "BufferMapping",
    "QAicProgramProperties",
    "QAicQueueProperties",
    "QBuffer",
    "QDevStatus",
    "QIDList",
    "QLogLevel",
    "QProgramStatus",
    "QStatus",
]


class QStatus(IntEnum):
    """What a call came to."""

    QS_SUCCESS = 0
    QS_PERM = 1
    QS_AGAIN = 2
    QS_NOMEM = 3
    QS_BUSY = 4
    QS_NODEV = 5
    QS_INVAL = 6
    QS_NOSPC = 7
    QS_BADFD = 8
    QS_TIMEDOUT = 9
    QS_PROTOCOL = 10
    QS_UNSUPPORTED = 11
    QS_DATA_CRC_ERROR = 12
    QS_DEV_ERROR = 300
    QS_ERROR = 500


class QDevStatus(IntEnum):
    """A device's state."""

    QDS_INITIALIZING = 0
    QDS_READY = 1
    QDS_ERROR = 2


class QLogLevel(IntEnum):
    """How much a context says."""

    QL_DEBUG = 0
    QL_INFO = 1
    QL_WARN = 2
    QL_ERROR = 3


class QProgramStatus(IntEnum):
    """Where a program stands."""

    QPS_INIT = 0
    QPS_LOADED = 1
    QPS_FULLY_ACTIVATED = 2
    QPS_ERROR = 100


class BufferIoTypeEnum(IntEnum):
    """Whether a buffer goes in or comes out."""

    BUFFER_IO_TYPE_INPUT = 1
    BUFFER_IO_TYPE_OUTPUT = 2


class BufferDataTypeEnum(IntEnum):
    """Element type of a buffer."""

    BUFFER_DATA_TYPE_FLOAT = 0
    BUFFER_DATA_TYPE_FLOAT16 = 1
    BUFFER_DATA_TYPE_INT8Q = 2
    BUFFER_DATA_TYPE_UINT8Q = 3
    BUFFER_DATA_TYPE_INT16Q = 4
    BUFFER_DATA_TYPE_INT32Q = 5
    BUFFER_DATA_TYPE_INT32I = 6
    BUFFER_DATA_TYPE_INT64I = 7
    BUFFER_DATA_TYPE_INT8 = 8
    BUFFER_DATA_TYPE_BFLOAT16 = 11


_DATA_TYPES = {
    "float32": BufferDataTypeEnum.BUFFER_DATA_TYPE_FLOAT,
    "float16": BufferDataTypeEnum.BUFFER_DATA_TYPE_FLOAT16,
    "int32": BufferDataTypeEnum.BUFFER_DATA_TYPE_INT32I,
    "int64": BufferDataTypeEnum.BUFFER_DATA_TYPE_INT64I,
}


def data_type(dtype: np.dtype[Any]) -> BufferDataTypeEnum:
    """The SDK's name of a numpy type; one-byte types are INT8."""
    return _DATA_TYPES.get(dtype.name, BufferDataTypeEnum.BUFFER_DATA_TYPE_INT8)


def numpy_type(kind: BufferDataTypeEnum) -> np.dtype[Any]:
    """The numpy type of a buffer; a type that data_type never gives is bytes."""
    return np.dtype(next((name for name, known in _DATA_TYPES.items() if known == kind), "uint8"))


class QIDList(list[int]):
    """Device numbers."""


class QBuffer(bytes):
    """Raw bytes of one buffer, made from bytes or from an array's elements in C order."""

    def __new__(cls, data: bytes | bytearray | memoryview | NDArray[Any] = b"") -> QBuffer:
        return super().__new__(cls, data.tobytes() if isinstance(data, np.ndarray) else bytes(data))

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self)


class BufferMapping:
    """One buffer of a program: inputs and outputs alike, `index` counting both."""

    def __init__(
        self, name: str, index: int, io_type: BufferIoTypeEnum, size: int, kind: BufferDataTypeEnum
    ) -> None:
        self.bufferName = name
        self.index = index
        self.ioType = io_type
        self.size = size
        self.isPartialBufferAllowed = False
        self.dataType = kind


class QAicProgramProperties:
    """How a program is loaded."""

    def __init__(self) -> None:
        self.SubmitRetryTimeoutMs = 0
        self.SubmitNumRetries = 5
        self.dataPathTimeoutMs = 0
        self.devMapping = ""


class QAicQueueProperties:
    """How a queue works."""

    def __init__(self) -> None:
        self.numThreadsPerQueue = 4
