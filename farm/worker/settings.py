"""What a worker process is told by its environment, and where it keeps its files."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import psutil

from farm.bells import records_url
from farm.domain.job import StageKind
from farm.domain.sizes import parse_size
from farm.stages.host import host_memory

#: The share of a host's memory that exports, references and compiles may take; the rest is for the runs.
MEMORY_SHARE = 0.6
#: A disk with less room than this is full: a log's last lines do not fit.
_FULL_BYTES = 64 * 1024


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


def default_memory() -> int:
    """Bytes that the CPU stages of this host may take together."""
    return int(host_memory() * MEMORY_SHARE)


@dataclass(frozen=True)
class WorkerSettings:
    """The settings of a worker process.

    memory_bytes: for the CPU stages of this host together. store_bytes: for the artifacts, None: the default.
    compile_limit_s, compile_bytes: what one compiler may take (farm.stages.compile), None: the default.
    """

    redis_url: str
    places: Places
    node: str
    sdk_root: Path | None
    share_card: bool
    lease_s: float
    run_limit_s: float | None
    memory_bytes: int
    store_bytes: int | None
    compile_limit_s: float | None
    compile_bytes: int | None

    @classmethod
    def from_environment(cls) -> WorkerSettings:
        """FARM_REDIS_URL, FARM_HOME, FARM_NODE, FARM_SDK_ROOT, FARM_SHARE_CARD, FARM_LEASE_S,
        FARM_RUN_LIMIT_S, FARM_MEMORY_LIMIT, FARM_STORE_LIMIT, FARM_COMPILE_LIMIT_S and FARM_COMPILE_MEMORY.

        FARM_RUN_LIMIT_S is what a run's child may take, start to finish; else the job's seconds decide.
        Raises BadInput for a limit that is no size.
        """
        memory, store = os.environ.get("FARM_MEMORY_LIMIT"), os.environ.get("FARM_STORE_LIMIT")
        slow, large = os.environ.get("FARM_COMPILE_LIMIT_S"), os.environ.get("FARM_COMPILE_MEMORY")
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
            memory_bytes=parse_size(memory, "FARM_MEMORY_LIMIT") if memory else default_memory(),
            store_bytes=parse_size(store, "FARM_STORE_LIMIT") if store else None,
            compile_limit_s=float(slow) if slow else None,
            compile_bytes=parse_size(large, "FARM_COMPILE_MEMORY") if large else None,
        )
