"""The runner's latency profile: one CSV file per activation, after four lines of preamble.

Source: Cloud AI SDK's latency_stats_python3.py and logs of several SDKs (docs/sdk.md, "The latency profile").
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from farm.domain.errors import StageFailed
from farm.domain.names import show, why

PATTERN = "aic-profiling-program-*-latency.txt"
#: Application call to application return, in us: the latency. (The spelling differs from the other columns'.)
COLUMN = "totalRoundtripTimeUs"
_PREAMBLE_LINES = 4
#: Where the SDK's own sample finds it by place; two counters follow.
_PLACE = -3
#: How far down a header is looked for by name.
_HEADER_WITHIN = 12
#: As C++ prints a number; what else `float` takes (1_000, other scripts' digits, infinity) is none.
_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{0,20})?(?:[eE][+-]?[0-9]{1,2})?")

Milliseconds = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LatencyProfile:
    """The latencies in ms of each batched request, an array per activation in the order they were recorded.

    by_place: the column was not found by its name but taken as the third from the end.
    files: what was read. Fewer than the activations: the percentiles cover part of the run only.
    """

    per_activation: tuple[Milliseconds, ...]
    by_place: bool
    files: tuple[Path, ...]


def read_latency(folder: Path, activations: int, since_ns: int) -> LatencyProfile:
    """Read every latency file of a run's folder.

    since_ns: st_mtime_ns of a file or folder made just before the run; anything older belongs to another run.
    Raises StageFailed("host") naming the file (and line) that is missing, empty, too old or malformed.
    """
    files = tuple(sorted(folder.glob(PATTERN), key=_program))
    if not files:
        raise StageFailed("host", f"{folder}: the runner wrote no {PATTERN}")
    if len(files) > activations:
        raise StageFailed("host", f"{folder}: {len(files)} latency files of {activations} activations")
    arrays, by_place = [], False
    for path in files:
        if path.stat().st_mtime_ns < since_ns:
            raise StageFailed("host", f"{path.name}: older than the run", str(path))
        column, values = _read(path)
        by_place = by_place or column != COLUMN
        arrays.append(values)
    return LatencyProfile(tuple(arrays), by_place, files)


def _program(path: Path) -> tuple[int, str]:
    number = path.name.split("-")[3]
    return int(number) if number.isascii() and number.isdigit() else 0, path.name


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split(",")]


def _lines(path: Path) -> list[str]:
    """The file's lines as an editor counts them; `splitlines` ends one at further characters."""
    try:
        return path.read_text(errors="replace").split("\n")
    except OSError as error:
        raise StageFailed("host", f"{path.name} cannot be read: {why(error)}", str(path)) from error


def _read(path: Path) -> tuple[str, Milliseconds]:
    lines = _lines(path)
    header_at = next(
        (at for at, line in enumerate(lines[:_HEADER_WITHIN]) if COLUMN in _cells(line)), _PREAMBLE_LINES
    )
    names = _cells(lines[header_at]) if header_at < len(lines) else []
    place = names.index(COLUMN) if COLUMN in names else len(names) + _PLACE
    # A number where the name should be: the header is missing, and this line is the first sample.
    if place < 0 or names.count(COLUMN) > 1 or _NUMBER.fullmatch(names[place]):
        raise StageFailed("host", f"{path.name}: no header of latency columns", str(path))
    values = []
    for number, line in enumerate(lines[header_at + 1 :], start=header_at + 2):
        if not line.strip():
            continue
        cells = _cells(line)
        if len(cells) != len(names):
            raise StageFailed(
                "host", f"{path.name} line {number}: {len(cells)} cells, not {len(names)}", str(path)
            )
        values.append(_microseconds(cells[place], f"{path.name} line {number}", path) / 1000)
    if not values:
        raise StageFailed("host", f"{path.name}: no sample recorded", str(path))
    return names[place], np.array(values)


def _microseconds(text: str, where: str, path: Path) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else 0.0
    if not value > 0:
        raise StageFailed("host", f"{where}: {show(text)} is no latency in us", str(path))
    return value
