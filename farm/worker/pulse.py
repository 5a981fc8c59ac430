"""How long a worker may be silent, and whether it is: one that works takes CPU time or waits for a disk."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

import psutil

#: What a stopping worker may still take for the attempt at hand (FARM_GRACE_S).
GRACE_S = 30.0
#: Seconds for which a free worker may leave bells unanswered (FARM_SILENT_S).
SILENT_S = 30.0
#: Seconds without a sign of life of a worker whose turn it is in an attempt (FARM_STALL_S).
STALL_S = 60.0
#: Seconds beyond the grace period for a stopping worker to be gone.
LEAVE_S = 10.0


@dataclass(frozen=True)
class Patience:
    """How long a worker may take, s: to finish when it stops, to answer a bell, to go on with an attempt."""

    grace_s: float = GRACE_S
    silent_s: float = SILENT_S
    stall_s: float = STALL_S

    @classmethod
    def from_environment(cls) -> Patience:
        """FARM_GRACE_S, FARM_SILENT_S and FARM_STALL_S."""

        def seconds(name: str, default: float) -> float:
            return float(os.environ.get(name) or default)

        return cls(
            seconds("FARM_GRACE_S", GRACE_S),
            seconds("FARM_SILENT_S", SILENT_S),
            seconds("FARM_STALL_S", STALL_S),
        )


class Pulse:
    """The signs of life of the process `pid`, as seen by whoever looks at it about each second."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._cpu_s = 0.0
        self._silent_s = 0.0
        self._looked: float | None = None

    def rest(self) -> None:
        """It owes no sign of life for now."""
        self._looked = None

    def silent_s(self, now: float, helper: int | None = None) -> float:
        """Seconds since the last sign of life. now: `time.monotonic()`. helper: a process that works for it.

        A long time between two looks counts as a second: whoever looks was stopped himself, or his host was.
        """
        cpu_s, waits = 0.0, False
        for pid in (self._pid, *([helper] if helper is not None else [])):
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                times = process.cpu_times()
                cpu_s += times.user + times.system
                waits = waits or process.status() == psutil.STATUS_DISK_SLEEP
        if self._looked is None or waits or cpu_s != self._cpu_s:
            self._silent_s = 0.0
        else:
            self._silent_s += min(1.0, now - self._looked)
        self._cpu_s, self._looked = cpu_s, now
        return self._silent_s
