"""The QPC container `programqpc.bin`: header, segment table, names and 8-byte aligned data, little-endian.

Source: software-kit-for-qualcomm-cloud-ai-100, QAicQpc.h; docs/sdk.md. The layout is the real one; the
segments are the emulator's own: `constants.bin` (large weights), `networkdesc.json` (what the program is) and
`network.onnx` (the graph to run, whose large weights are external data in the QPC itself).
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

MAGIC = 0x00A1CD7C
VERSION = (0, 1)
SLOW_PATH = 1  # the only compression the loader of the open runtime accepts
_HEADER = struct.Struct("<IBBHQQQQ")  # magic, major, minor, compression, size, base, segments, table offset
_SEGMENT = struct.Struct("<QQQQ")  # size, offset, name offset, start offset
_ALIGNMENT = 8

PROGRAM_FILE = "programqpc.bin"
CONSTANTS = "constants.bin"
DESCRIPTION = "networkdesc.json"
NETWORK = "network.onnx"


class BadQpc(ValueError):
    """The file is not a whole QPC; the message says what is wrong with it."""


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


class Stream(Protocol):
    """A segment that is made while it is written: blocks that are `size` bytes in all."""

    @property
    def size(self) -> int:
        """Bytes of the segment."""
        ...

    def __iter__(self) -> Iterator[bytes | memoryview]: ...


def data_start(names: Iterable[str]) -> int:
    """The byte at which the first of the segments of these names begins.

    Raises ValueError for a name that is empty, or that holds a NUL or what UTF-8 cannot encode.
    """
    encoded = [name.encode() for name in names]
    if any(not name or b"\0" in name for name in encoded):
        raise ValueError("a QPC segment needs a name without NUL")
    return _aligned(_HEADER.size + sum(_SEGMENT.size + len(name) + 1 for name in encoded))


def write(path: Path, segments: Mapping[str, bytes | Stream]) -> None:
    """Write `segments` (name -> bytes, or a stream of them) as a QPC at `path`. Raises as data_start does."""
    data_at = data_start(segments)
    names = [name.encode() for name in segments]
    name_at = _HEADER.size + _SEGMENT.size * len(segments)
    table = bytearray()
    offsets = []
    for name, source in zip(names, segments.values(), strict=True):
        size = len(source) if isinstance(source, bytes) else source.size
        table += _SEGMENT.pack(size, data_at, name_at, data_at)
        offsets.append(data_at)
        name_at += len(name) + 1
        data_at = _aligned(data_at + size)
    header = _HEADER.pack(MAGIC, *VERSION, SLOW_PATH, data_at, 0, len(segments), _HEADER.size)
    with path.open("wb") as file:
        file.write(header + table + b"".join(name + b"\0" for name in names))
        for offset, source in zip(offsets, segments.values(), strict=True):
            file.write(bytes(offset - file.tell()))
            for block in (source,) if isinstance(source, bytes) else source:
                file.write(block)
        file.write(bytes(data_at - file.tell()))


class Segments(Mapping[str, memoryview]):
    """A QPC's segments by name, as views of the mapped file: nothing is read until it is touched."""

    def __init__(self, data: mmap.mmap, ranges: dict[str, tuple[int, int]]) -> None:
        self._view = memoryview(data)
        self._ranges = ranges

    def __getitem__(self, name: str) -> memoryview:
        start, size = self._ranges[name]
        return self._view[start : start + size]

    def __iter__(self) -> Iterator[str]:
        return iter(self._ranges)

    def __len__(self) -> int:
        return len(self._ranges)


def read(path: Path) -> Segments:
    """Map the QPC at `path` and check its header and table. Raises BadQpc and OSError."""
    with path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size
        if length < _HEADER.size:
            raise BadQpc(f"{path}: {length} bytes is less than a QPC header")
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    magic, major, minor, compression, size, base, count, table_at = _HEADER.unpack_from(data, 0)
    if magic != MAGIC:
        raise BadQpc(f"{path}: magic {magic:#010x} is not {MAGIC:#010x}")
    if (major, minor) != VERSION or compression != SLOW_PATH:
        raise BadQpc(f"{path}: version {major}.{minor}, compression {compression} is not supported")
    if size != length:
        raise BadQpc(f"{path}: header says {size} bytes, the file has {length}")
    ranges: dict[str, tuple[int, int]] = {}
    if table_at - base < _HEADER.size or table_at - base + count * _SEGMENT.size > length:
        raise BadQpc(f"{path}: segment table of {count} entries leaves the file")
    for index in range(count):
        segment_size, offset, name_at, _ = _SEGMENT.unpack_from(data, table_at - base + index * _SEGMENT.size)
        start, name_start = offset - base, name_at - base
        end_of_name = data.find(b"\0", name_start) if 0 <= name_start < length else -1
        if not 0 <= start <= start + segment_size <= length or end_of_name < 0:
            raise BadQpc(f"{path}: segment {index} leaves the file")
        try:
            name = data[name_start:end_of_name].decode()
        except UnicodeDecodeError as error:
            raise BadQpc(f"{path}: segment {index} has a malformed name") from error
        ranges[name] = (start, segment_size)
    return Segments(data, ranges)
