"""External data are taken from the model's folder alone, and only where they are whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import TensorProto

from farm.emulator.runtime import external


def tensor(location: str = "data", **entries: int) -> TensorProto:
    """Four floats that lie there."""
    made = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 2])
    external.refer(made, location, entries.get("offset", 0), entries.get("length", 16))
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").write_bytes(bytes(range(20)))
    return tmp_path


def test_data_are_where_the_entries_say(folder: Path) -> None:
    assert external.region(tensor(offset=4), folder) == (folder / "data", 4, 16)
    made = tensor(offset=4)
    external.fetch(made, folder)
    assert made.raw_data == bytes(range(4, 20))
    assert not external.is_external(made)


def test_a_length_may_be_left_out(folder: Path) -> None:
    made = tensor()
    del made.external_data[2]
    assert external.region(made, folder).size == 16


@pytest.mark.parametrize(
    "made",
    [
        tensor(offset=5),
        tensor(offset=-1),
        tensor(length=12),
        tensor(length=-4),
        tensor(location="gone"),
        tensor(location="../data"),
        tensor(location="/etc/passwd"),
        tensor(location=""),
    ],
)
def test_what_is_not_there_or_elsewhere_is_refused(folder: Path, made: TensorProto) -> None:
    with pytest.raises(ValueError, match="weight w"):
        external.region(made, folder)
