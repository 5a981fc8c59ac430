"""What a worker process is told by its environment, and where it keeps its files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from farm.bells import records_url


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

    @property
    def models(self) -> Path:
        """The view: each model's newest finished job."""
        return self.home / "models"

    @property
    def process_logs(self) -> Path:
        """Logs of the farm's own processes."""
        return self.home / "logs"

    def attempt(self, stage: str, attempt: int) -> Path:
        """The private folder of an attempt of a stage (`<campaign>/<name>`)."""
        return self.home / "work" / stage / str(attempt)

    def log(self, stage: str, attempt: int) -> Path:
        """The log of an attempt, its folder made."""
        path = self.home / "logs" / "stages" / f"{stage}-{attempt}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


@dataclass(frozen=True)
class WorkerSettings:
    """The settings of a worker process."""

    redis_url: str
    places: Places
    node: str
    sdk_root: Path | None
    share_card: bool
    lease_s: float
    run_limit_s: float | None

    @classmethod
    def from_environment(cls) -> WorkerSettings:
        """FARM_REDIS_URL, FARM_HOME, FARM_NODE, FARM_SDK_ROOT, FARM_SHARE_CARD, FARM_LEASE_S and
        FARM_RUN_LIMIT_S.

        FARM_RUN_LIMIT_S is what a run's child may take, start to finish; else the job's seconds decide.
        """
        root = os.environ.get("FARM_SDK_ROOT")
        limit = os.environ.get("FARM_RUN_LIMIT_S")
        home = os.environ.get("FARM_HOME") or platformdirs.user_data_dir("aic-farm")
        return cls(
            redis_url=records_url(),
            places=Places(Path(home).absolute()),
            node=os.environ.get("FARM_NODE") or os.uname().nodename,
            sdk_root=Path(root) if root else None,
            share_card=os.environ.get("FARM_SHARE_CARD") == "1",
            lease_s=float(os.environ.get("FARM_LEASE_S") or 15.0),
            run_limit_s=float(limit) if limit else None,
        )
