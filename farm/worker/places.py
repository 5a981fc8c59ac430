"""Where a farm keeps its files on this host."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import psutil

from farm.domain.job import StageKind

#: A disk with less room than this is full: a log's last lines do not fit.
_FULL_BYTES = 64 * 1024


def default_home() -> Path:
    """FARM_HOME, else `aic-farm` under the user's data folder."""
    chosen = os.environ.get("FARM_HOME")
    return Path(chosen).absolute() if chosen else Path(platformdirs.user_data_dir("aic-farm"))


@dataclass(frozen=True)
class Places:
    """Folders of a farm on this host, below FARM_HOME."""

    home: Path

    @property
    def store(self) -> Path:
        """Artifacts (FARM_STORE puts them elsewhere)."""
        return Path(os.environ.get("FARM_STORE") or self.home / "store")

    @property
    def outbox(self) -> Path:
        """Outcomes the records do not have yet."""
        return self.home / "outbox"

    def log_pattern(self, kind: StageKind) -> str:
        """Where the logs of attempts at such a stage are, with `{stage}` and `{attempt}` for their own."""
        where = "work/{stage}/{attempt}/run.log" if kind == "run" else "logs/stages/{stage}-{attempt}.log"
        return f"{self.home}/{where}"

    @property
    def models(self) -> Path:
        """The view: each model's newest finished job."""
        return self.home / "models"

    @property
    def process_logs(self) -> Path:
        """Logs of the farm's own processes."""
        return self.home / "logs"

    @property
    def work(self) -> Path:
        """The attempts' private folders."""
        return self.home / "work"

    def attempt(self, stage: str, attempt: int) -> Path:
        """The private folder of an attempt of a stage (`<campaign>/<name>`)."""
        return self.work / stage / str(attempt)

    def log(self, stage: str, attempt: int) -> Path:
        """The log of an attempt."""
        return self.process_logs / "stages" / f"{stage}-{attempt}.log"


def full_disk(*folders: Path) -> Path | None:
    """The first of the folders whose disk is full, None where there is room."""
    for folder in folders:
        with contextlib.suppress(OSError):
            if psutil.disk_usage(str(folder)).free < _FULL_BYTES:
                return folder
    return None
