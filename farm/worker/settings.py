"""What a worker process is told by its environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from farm.bells import records_url
from farm.domain.sizes import parse_size
from farm.stages.host import host_memory
from farm.worker.places import Places, default_home

#: The share of a host's memory that exports, references and compiles may take; the rest is for the runs.
MEMORY_SHARE = 0.6


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
        return cls(
            redis_url=records_url(),
            places=Places(default_home()),
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
