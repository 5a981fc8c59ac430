"""The QPC container holds what was put into it, and anything else is refused."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farm.emulator.runtime import qpc

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Blocks:
    """Bytes that come three at a time."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def __iter__(self) -> Iterator[bytes]:
        return (self.data[at : at + 3] for at in range(0, self.size, 3))


@QUICK
@given(segments=st.dictionaries(NAMES, st.binary(max_size=300), max_size=6), streamed=st.booleans())
def test_round_trip(tmp_path: Path, segments: dict[str, bytes], streamed: bool) -> None:
    path = tmp_path / "programqpc.bin"
    qpc.write(path, {name: Blocks(data) if streamed else data for name, data in segments.items()})
    assert {name: bytes(data) for name, data in qpc.read(path).items()} == segments
    if segments:
        first = next(iter(segments.values()))
        assert path.read_bytes()[qpc.data_start(segments) :].startswith(first)


def test_layout_is_the_real_one(tmp_path: Path) -> None:
    path = tmp_path / "programqpc.bin"
    qpc.write(path, {"networkdesc.json": b"{}", "network.onnx": b"12345"})
    data = path.read_bytes()
    magic, major, minor, compression, size, _base, count, table = struct.unpack_from("<IBBHQQQQ", data)
    assert (magic, major, minor, compression) == (0x00A1CD7C, 0, 1, 1)
    assert (size, count, table) == (len(data), 2, 40)
    for index, content in enumerate([b"{}", b"12345"]):
        length, offset, name_at, _ = struct.unpack_from("<QQQQ", data, table + 32 * index)
        assert offset % 8 == 0
        assert data[offset : offset + length] == content
        assert data[name_at:].startswith([b"networkdesc.json\0", b"network.onnx\0"][index])


@QUICK
@given(cut=st.integers(min_value=0, max_value=199))
def test_a_cut_file_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "programqpc.bin"
    qpc.write(path, {"a": bytes(60), "b": bytes(60)})
    data = path.read_bytes()
    assert len(data) > cut
    path.write_bytes(data[:cut])
    with pytest.raises(qpc.BadQpc):
        qpc.read(path)


@QUICK
@given(data=st.binary(min_size=1, max_size=400), whole=st.booleans())
def test_foreign_bytes_are_refused_or_read_within_bounds(tmp_path: Path, data: bytes, whole: bool) -> None:
    path = tmp_path / "programqpc.bin"
    if whole:  # a right header over a random table
        length = 40 + len(data)
        data = struct.pack("<IBBHQQQQ", qpc.MAGIC, 0, 1, 1, length, 0, len(data) // 32, 40) + data
    path.write_bytes(data)
    try:
        segments = qpc.read(path)
    except qpc.BadQpc:
        return
    assert all(len(content) <= len(data) for content in segments.values())


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_a_name_that_cannot_be_stored_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        qpc.write(tmp_path / "programqpc.bin", {name: b""})
