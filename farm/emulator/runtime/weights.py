"""The large weights of a model on their way to the QPC: a block at a time, rounded where it is in 16 bits."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .external import Region

# Limits of ONNX Runtime's converter: smaller values become the least subnormal, larger ones the largest.
LEAST_POSITIVE = 5.96e-08
LARGEST = 65504.0

_BLOCK = 1 << 20  # elements looked at at once


class Weight(NamedTuple):
    """A float weight at its source, and what it becomes: `dtype` is <f2 or <f4."""

    name: str
    dims: tuple[int, ...]
    source: Region
    dtype: str

    @property
    def size(self) -> int:
        """Its bytes as `dtype`."""
        return prod(self.dims) * np.dtype(self.dtype).itemsize


class Constants:
    """Weights one after another, each `places[name]` bytes from the start: a segment to be streamed.

    `underflows` names the weights in which a value underflowed, of those that have been streamed.
    """

    def __init__(self, weights: list[Weight], alignment: int, start: int) -> None:
        self._weights = weights
        self.places: dict[str, int] = {}
        self.underflows: list[str] = []
        at = start
        for weight in weights:
            at += -at % alignment
            self.places[weight.name] = at - start
            at += weight.size
        self.size = at - start

    def __iter__(self) -> Iterator[memoryview]:
        """The segment's bytes; each block holds until the next one is asked for. Raises OSError."""
        at = 0
        for weight in self._weights:
            yield memoryview(bytes(self.places[weight.name] - at))
            for block, underflow in blocks(weight):
                if underflow and weight.name not in self.underflows:
                    self.underflows.append(weight.name)
                yield block.data.cast("B")
            at = self.places[weight.name] + weight.size

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Every weight whole, by name: as much memory as the segment is large."""
        found = {}
        for weight in self._weights:
            values = np.concatenate([block.copy() for block, _ in blocks(weight)] or [np.empty(0)])
            found[weight.name] = values.astype(weight.dtype, copy=False).reshape(weight.dims)
        return found


def blocks(weight: Weight) -> Iterator[tuple[NDArray[Any], bool]]:
    """The weight's values as its dtype, in buffers that are used again, and whether one underflowed."""
    buffer = np.empty(min(_BLOCK, weight.source.size // 4), "<f4")
    half = np.empty(buffer.size, "<f2")
    with weight.source.file.open("rb") as file:
        file.seek(weight.source.offset)
        for start in range(0, weight.source.size // 4, _BLOCK):
            values = buffer[: weight.source.size // 4 - start]
            if file.readinto(values.data.cast("B")) != values.nbytes:
                raise OSError(errno.EIO, f"{weight.source.file} was cut off while it was read")
            if weight.dtype == "<f2":
                yield half[: values.size], to_half(values, half[: values.size])
            else:
                yield values, False


def to_half(values: NDArray[np.float32], half: NDArray[np.float16]) -> bool:
    """Round as ONNX Runtime's converter does, into `half`; whether a value underflows."""
    size = np.abs(values)
    tiny = (size > 0) & (size < LEAST_POSITIVE)
    underflow = bool(tiny.any())
    if underflow:
        values = np.where(tiny, np.copysign(np.float32(LEAST_POSITIVE), values), values)
    beyond = (size > LARGEST) & np.isfinite(size)
    if beyond.any():
        values = np.where(beyond, np.copysign(np.float32(LARGEST), values), values)
    half[:] = values
    return underflow
