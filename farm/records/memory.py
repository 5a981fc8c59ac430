"""What a host has seen of its records, so that it notices when they come back empty, older or another farm's.

Records name their farm and carry two numbers that only rise: the farm clock, which each pass of a
coordinator advances, and the epoch, which `farm adopt` raises. A process remembers the furthest it saw, and
shares that with the others of its host through a file below FARM_HOME, one for each Redis.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from farm.domain.digest import digest
from farm.domain.errors import RecordsLost

#: How far the file may be behind its host's processes, ms of the farm clock.
BEHIND_MS = 2000
#: Where records say what Seen holds, in its order: fields of farm:meta.
FIELDS = ("farm_id", "epoch", "clock")


@dataclass(frozen=True)
class Seen:
    """How far some records were. clock: ms. Records made before there were epochs are of the first."""

    farm: str
    epoch: int
    clock: int

    @classmethod
    def read(cls, values: Sequence[str | None]) -> Seen | None:
        """From the values of FIELDS; None for records that name no farm: empty ones."""
        farm, epoch, clock = values
        return cls(farm, int(epoch or 1), int(clock or 0)) if farm else None

    def is_before(self, other: Seen) -> bool:
        """Whether these are an older state of the other's records."""
        return self.farm == other.farm and (self.epoch, self.clock) < (other.epoch, other.clock)


class Memory:
    """The furthest that this process has seen of the records at `address`, and its host, below `home`."""

    def __init__(self, address: str = "", home: Path | None = None) -> None:
        self.address = address
        self._file = home / "records" / f"{digest(address, 16)}.json" if home else None
        self._own: Seen | None = None

    @property
    def seen(self) -> Seen | None:
        """The furthest this process knows of, without a look at the file."""
        return self._own

    def look(self) -> Seen | None:
        """The furthest any process of this host has seen. What was adopted meanwhile counts here too."""
        kept = self._read()
        if kept and (self._own is None or self._own.farm != kept.farm or self._own.is_before(kept)):
            self._own = kept
        return self._own

    def verify(self, ask: Callable[[], Sequence[str | None]]) -> Seen | None:
        """Hold the records, as `ask` reads them (values of FIELDS), against what was seen; remember them.

        None: they are empty, and nothing was seen of them yet. Raises RecordsLost.
        """
        # Looked at first: others of this host may see more of them while the answer is on its way.
        before = self.look()
        found = Seen.read(ask())
        if before and (found is None or found.farm != before.farm or found.is_before(before)):
            raise RecordsLost(
                f"Redis at {self.address} {_what_is_wrong(found, before)}; nothing is written there and this"
                " host keeps what it has: put its append-only file back, or go on with what is there by"
                " `farm adopt`"
            )
        if found is not None:
            self._own = found
            kept = self._read()
            if kept is None or (kept.epoch, kept.clock + BEHIND_MS) <= (found.epoch, found.clock):
                self._write(found)
        return found

    def replace(self, found: Seen) -> None:
        """From now on these are the records, whatever was seen before."""
        self._own = found
        self._write(found)

    def _read(self) -> Seen | None:
        try:
            return Seen(**json.loads(self._file.read_text())["seen"]) if self._file else None
        except (OSError, ValueError, KeyError, TypeError):
            # None there yet, or the host lost it with its power: as on a host that has seen nothing.
            return None

    def _write(self, found: Seen) -> None:
        if self._file is None:
            return
        aside = self._file.with_suffix(f".{os.getpid()}.tmp")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with aside.open("w") as stream:
                json.dump({"address": self.address, "seen": asdict(found)}, stream)
                stream.flush()
                os.fsync(stream.fileno())
            aside.rename(self._file)
        except OSError:
            # A reader's home may be read-only, a disk full: then this process remembers alone.
            return


def _what_is_wrong(found: Seen | None, seen: Seen) -> str:
    if found is None:
        return f"is empty, but held the records of farm {seen.farm}"
    if found.farm != seen.farm:
        return f"holds the records of farm {found.farm}, but held those of farm {seen.farm}"
    if found.epoch != seen.epoch:
        return f"holds older records of farm {seen.farm}, from before epoch {seen.epoch} was adopted"
    missing = (seen.clock - found.clock) / 1000
    return f"holds older records of farm {seen.farm}: the last {missing:.1f} s of its work are missing"
