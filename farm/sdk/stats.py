"""The runner's Stats line, believed only when its own figures agree.

Source: the open runtime's QAicRunner.cpp and logs (docs/sdk.md, "The Stats line").
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from farm.domain.errors import StageFailed

_STATS = re.compile(
    r"InferenceCnt\s+(\d{1,18})\s+TotalDuration\s+(\d{1,18})\s*us\s+BatchSize\s+(\d{1,9})"
    r"\s+Inf/Sec\s+(\d{1,18}(?:\.\d{1,18})?)(?!\S)",
    re.ASCII,
)
#: The printed rate has three decimals.
_ROUNDING = 0.001


@dataclass(frozen=True)
class Stats:
    """One run: batched executions over all activations, their duration, and samples per second."""

    inferences: int
    duration_us: int
    batch_size: int
    inf_s: float


def parse_stats(log: Path, batch_size: int) -> Stats:
    """The last Stats line of the runner's log.

    Raises StageFailed: "card" where there is none or nothing ran, "host" where it contradicts itself
    (Inf/Sec = InferenceCnt x BatchSize x 10^6 / TotalDuration) or the batch size compiled for.
    """
    found = None
    with log.open(errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            for match in _STATS.finditer(line):
                found = number, match
    if found is None:
        raise StageFailed("card", f"{log.name}: the runner printed no Stats line", str(log))
    number, match = found
    where = f"{log.name} line {number}: {match[0]!r}"
    stats = Stats(int(match[1]), int(match[2]), int(match[3]), float(match[4]))
    if not (stats.inferences and stats.duration_us and stats.inf_s):
        raise StageFailed("card", f"{where}: nothing ran", str(log))
    rate = stats.inferences * stats.batch_size * 1e6 / stats.duration_us
    if abs(rate - stats.inf_s) > _ROUNDING:
        raise StageFailed("host", f"{where}: its own figures make {rate:.3f} Inf/Sec", str(log))
    if stats.batch_size != batch_size:
        raise StageFailed("host", f"{where}: the program was compiled for batch {batch_size}", str(log))
    return stats
