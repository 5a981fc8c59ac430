"""The runner's latency files: `aic-profiling-program-<p>-latency.txt`.

Four preamble lines, a CSV header padded with blanks, one row for each recorded inference; columns ending in
`Us` are microseconds; the device's columns say N/A, for a program compiled without device statistics.
Source: docs/sdk.md, "the latency profile" (the preamble's text is not published; ours says what the file
is).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .engine import COUNTS, STAMPS

#: Column names as they stand in the file, in order.
COLUMNS = (
    "Sample",
    "devInfPerSec",
    "devExecUs",
    "devInWaitTimeUs",
    "devOutWaitTimeUs",
    "hostRoundTripUs",
    "enqTimeUs",
    "preProcTimeUs",
    "submitTimeUs",
    "execTotalUs",
    "exectoVcUs",
    "execToCompleteUs",
    "postProcUs",
    "totalRoundtripTimeUs",
    "queueDepth",
    "numInfInQueue",
)
NUMBERINGS = ("zero", "one", "all-into-zero")
_ROW = "%d, N/A, N/A, N/A, N/A, %.0f, %.3f, %.3f, %.3f, %.3f, %.3f, %.0f, %.3f, %.3f, %d, %d\n"
_CHUNK = 4096


def columns(rows: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """The host's columns (µs) and the two counters from the engine's rows (ns)."""
    at = dict(zip(STAMPS + COUNTS, rows.T, strict=True))

    def between(first: str, last: str) -> NDArray[np.float64]:
        return np.asarray((at[last] - at[first]) / 1e3, dtype=np.float64)

    return {
        "hostRoundTripUs": between("submitted", "completed"),
        "enqTimeUs": between("prepared", "queued"),
        "preProcTimeUs": between("called", "prepared"),
        "submitTimeUs": between("queued", "submitted"),
        # The instance's queue stands for the card's channel: waiting there counts as execution, as it does
        # on a card.
        "execTotalUs": between("queued", "completed"),
        "exectoVcUs": between("queued", "submitted"),
        "execToCompleteUs": between("submitted", "completed"),
        "postProcUs": between("completed", "returned"),
        "totalRoundtripTimeUs": between("called", "returned"),
        "queueDepth": at["depth"].astype(np.float64),
        "numInfInQueue": at["in_queue"].astype(np.float64),
    }


def render(rows: NDArray[np.int64], first: int = 0, activation: int = 0, preamble: int = 4) -> str:
    """A latency file's text; `first` is the number of the first row's inference."""
    lines = [
        "Latency profile",
        f"Activation: {activation}",
        f"Samples: {len(rows)}",
        "Times in microseconds",
        "N/A: not recorded",
    ]
    head = "".join(f"{line}\n" for line in lines[:preamble])
    head += ", ".join(f"{name:<{len(name) + 1}}" for name in COLUMNS) + "\n"
    table = np.column_stack([np.arange(first, first + len(rows)), *columns(rows).values()])
    parts = [head]
    for start in range(0, len(table), _CHUNK):
        part = table[start : start + _CHUNK]
        parts.append((_ROW * len(part)) % tuple(part.ravel().tolist()))
    return "".join(parts)


def write(
    directory: str | Path,
    tables: list[NDArray[np.int64]],
    numbering: str,
    *,
    first: int = 0,
    preamble: int = 4,
) -> list[str]:
    """Write one file for each activation's rows; what the runner says about it, line by line.

    The lines name files as `directory` was given: a leading `./` stays. Source: recorded runner logs.

    numbering: files from 0, from 1, or every activation into file 0, where the last one stays (NUMBERINGS).
    """
    said = []
    for activation, rows in enumerate(tables):
        number = {"zero": activation, "one": activation + 1, "all-into-zero": 0}[numbering]
        shown = f"{directory}/aic-profiling-program-{number}-latency.txt"
        path = Path(shown)
        if path.exists():
            said.append(f"Deleting previous file: {shown}")
            path.unlink()
        said.append(f"Writing file:{shown}")
        path.write_text(render(rows, first, activation, preamble))
    return said
