"""Latency files read back as documented: four lines, padded names, microseconds."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from farm.emulator.runtime import profile
from farm.emulator.runtime.engine import COUNTS, STAMPS


def table(steps: list[list[int]]) -> NDArray[np.int64]:
    """Engine rows from the nanoseconds between stamps; one more in the queue each time."""
    stamps = np.cumsum(np.array(steps, dtype=np.int64).reshape(-1, len(STAMPS)), axis=1)
    depths = np.arange(len(stamps))[:, None]
    return np.hstack([stamps, depths, depths + 1])


def read(text: str, preamble: int = 4) -> list[dict[str, str]]:
    """The file as its readers take it."""
    lines = text.splitlines()[preamble:]
    rows = csv.DictReader(lines, skipinitialspace=True)
    return [{name.strip(): value.strip() for name, value in row.items()} for row in rows]


_STEPS = st.lists(
    st.lists(st.integers(0, 10**12), min_size=len(STAMPS), max_size=len(STAMPS)), min_size=1, max_size=30
)


@given(_STEPS, st.integers(0, 1000))
def test_rows_survive_the_file(steps: list[list[int]], first: int) -> None:
    rows = table(steps)
    found = read(profile.render(rows, first))
    total = rows[:, len(STAMPS) - 1] - rows[:, 0]
    assert [int(row["Sample"]) for row in found] == list(range(first, first + len(rows)))
    assert np.allclose([float(row["totalRoundtripTimeUs"]) for row in found], total / 1e3, atol=5e-4, rtol=0)
    assert [int(row["queueDepth"]) for row in found] == list(range(len(rows)))
    for row, times in zip(found, rows, strict=True):
        parts = sum(float(row[name]) for name in ("preProcTimeUs", "enqTimeUs", "execTotalUs", "postProcUs"))
        assert parts == pytest.approx((times[len(STAMPS) - 1] - times[0]) / 1e3, abs=0.01)


def test_names_are_padded_and_device_columns_not_available() -> None:
    text = profile.render(table([[0, 1, 2, 3, 4, 5]]))
    header = text.splitlines()[4]
    assert [name.strip() for name in header.split(",")] == list(profile.COLUMNS)
    assert all(name.endswith(" ") for name in header.split(","))
    row = read(text)[0]
    assert {row[name] for name in profile.COLUMNS[1:5]} == {"N/A"}
    assert len(row) == len(STAMPS) + len(COUNTS) + 8


def test_the_latency_is_the_third_column_from_the_end() -> None:
    assert profile.COLUMNS[-3] == "totalRoundtripTimeUs"


@pytest.mark.parametrize(
    ("numbering", "names", "samples"),
    [
        ("zero", ["program-0", "program-1", "program-2"], [1, 2, 3]),
        ("one", ["program-1", "program-2", "program-3"], [1, 2, 3]),
        ("all-into-zero", ["program-0"], [3]),
    ],
)
def test_the_three_numberings(tmp_path: Path, numbering: str, names: list[str], samples: list[int]) -> None:
    tables = [table([[1] * len(STAMPS)] * count) for count in (1, 2, 3)]
    said = profile.write(tmp_path, tables, numbering)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == [f"aic-profiling-{name}-latency.txt" for name in names]
    assert [len(read(file.read_text())) for file in files] == samples
    assert sum(line.startswith("Writing file:/") for line in said) == 3
    assert sum(line.startswith("Deleting previous file: /") for line in said) == 3 - len(names)


def test_a_file_of_an_earlier_run_is_replaced() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for count in (5, 2):
            said = profile.write(Path(folder), [table([[1] * len(STAMPS)] * count)], "one")
        (file,) = Path(folder).iterdir()
        assert len(read(file.read_text())) == 2
        assert said == [f"Deleting previous file: {file}", f"Writing file:{file}"]


def test_no_rows_leave_a_header() -> None:
    assert read(profile.render(np.empty((0, len(STAMPS) + len(COUNTS)), dtype=np.int64))) == []
