"""Outcomes written to disk before they are reported, so that neither a crash nor a lost Redis loses one."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Finished:
    """A stage that was done, and what came of it. farm: whose records wait for it, "" where nobody noted."""

    stage: str
    token: str
    outcome: dict[str, Any]
    farm: str = ""


class Outbox:
    """A folder of one file per outcome not yet accepted by the records."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, token: str) -> Path:
        """The file of an attempt's outcome."""
        return self.folder / f"{token}.json"

    def write(self, finished: Finished) -> None:
        """Keep the outcome: whole on disk when this returns, not there at all when it raises OSError."""
        target = self.path(finished.token)
        aside = target.with_suffix(f".{os.getpid()}.tmp")
        try:
            with aside.open("w") as stream:
                json.dump(asdict(finished), stream)
                stream.flush()
                os.fsync(stream.fileno())
            aside.rename(target)
        except OSError:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            raise
        fd = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def read(self, token: str) -> Finished | None:
        """The outcome of an attempt, None where there is none."""
        try:
            return Finished(**json.loads(self.path(token).read_text()))
        except FileNotFoundError:
            return None

    def remove(self, token: str) -> None:
        """The records have it."""
        with contextlib.suppress(OSError):  # a folder that became read-only: what is reported may be again
            self.path(token).unlink(missing_ok=True)

    def leftovers(self, farm: str) -> Iterator[Finished]:
        """What earlier processes could not report to the records of this farm; another farm's stays."""
        for path in sorted(self.folder.glob("*.json")):
            found = self.read(path.stem)
            if found is not None and found.farm in ("", farm):
                yield found
