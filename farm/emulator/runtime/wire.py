"""Reads an ONNX file without its large weights: what is inline becomes a reference to the bytes in the file.

The references are external data, as an exporter writes them. Field numbers: onnx.proto of the ONNX project.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from onnx import ModelProto, TensorProto

from . import external

_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def parse(path: Path) -> ModelProto:
    """The model at `path`; its large float weights are references to where they lie.

    Raises OSError, and ValueError for what is no ONNX model.
    """
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise ValueError("it is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            rest = _without(data, 0, len(data), (_GRAPH, _INITIALIZER), path.name)
    try:
        model: ModelProto = ModelProto.FromString(rest)
    except Exception as error:  # protobuf's DecodeError derives from Exception alone
        raise ValueError(str(error)) from error
    return model


def _without(data: mmap.mmap, start: int, end: int, way: tuple[int, ...], location: str) -> bytes:
    """The message with the tensors at the end of `way` (field numbers) referring to their bytes."""
    if not way:
        return _reference(data, start, end, location)
    out = bytearray()
    for number, wire, key_at, at, stop in _fields(data, start, end):
        if number == way[0] and wire == _BYTES:
            inner = _without(data, at, stop, way[1:], location)
            out += _number(number << 3 | _BYTES) + _number(len(inner)) + inner
        else:
            out += data[key_at:stop]
    return bytes(out)


def _reference(data: mmap.mmap, start: int, end: int, location: str) -> bytes:
    """A tensor, without its raw data where they are large floats."""
    if end - start < external.LARGE:
        return data[start:end]
    rest, raw = bytearray(), None
    for number, _, key_at, at, stop in _fields(data, start, end):
        if number == _RAW_DATA:
            raw = (at, stop - at)
        else:
            rest += data[key_at:stop]
    if raw is None or raw[1] < external.LARGE:
        return data[start:end]
    tensor = TensorProto.FromString(bytes(rest))
    if tensor.data_type != TensorProto.FLOAT or external.is_external(tensor):
        return data[start:end]
    external.refer(tensor, location, *raw)
    return bytes(tensor.SerializeToString())


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """(number, wire type, start of the key, start and end of the value) of each field of a message."""
    at = start
    while at < end:
        key_at = at
        key, at = _varint(data, at, end)
        wire = key & 7
        first = at
        if wire == _VARINT:
            _, at = _varint(data, at, end)
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        elif wire == _BYTES:
            length, first = _varint(data, at, end)
            at = first + length
        else:
            raise ValueError(f"unknown wire type {wire} at byte {key_at}")
        if at > end:
            raise ValueError(f"a field ends beyond its message at byte {key_at}")
        yield key >> 3, wire, key_at, first, at


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError(f"bad number at byte {at}")


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
