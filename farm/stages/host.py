"""Which machine this is, and what it has to give."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def boot_id() -> str:
    """What this machine is called until it is started again (random(4)); its containers share it."""
    return _BOOT_ID.read_text().strip()


def host_memory() -> int:
    """Bytes of this host's memory, or of its cgroup's."""
    most = int(psutil.virtual_memory().total)
    with contextlib.suppress(OSError, ValueError):  # no cgroup, or no limit: "max"
        most = min(most, int(_CGROUP_LIMIT.read_text()))
    return most
