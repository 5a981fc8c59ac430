"""What this host has to give."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def host_memory() -> int:
    """Bytes of this host's memory, or of its cgroup's."""
    most = int(psutil.virtual_memory().total)
    with contextlib.suppress(OSError, ValueError):  # no cgroup, or no limit: "max"
        most = min(most, int(_CGROUP_LIMIT.read_text()))
    return most
