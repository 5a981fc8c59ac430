"""The command lines of the farm's processes: the same for `farm up`, `farm worker` and a compose file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Literal

from farm.domain.queues import CPU_QUEUES


def worker_argv(
    kind: Literal["cpu", "device"],
    queues: Sequence[str] = (),
    *,
    name: str | None = None,
    loglevel: str = "INFO",
) -> list[str]:
    """The Celery command line of one worker process.

    cpu: all CPU queues unless some are named; device: the queue of its card. name tells workers of one host
    apart. The app itself sets concurrency 1 and prefetch 1; mingling and gossip would only cost start-up.
    """
    chosen = list(queues) or (list(CPU_QUEUES) if kind == "cpu" else [])
    if not chosen:
        raise ValueError("a device worker needs its card's queue")
    return [
        sys.executable, "-m", "celery", "-A", "tasks", "worker",
        "-Q", ",".join(chosen),
        "-n", f"{name or '-'.join(chosen)}@%h",
        "-l", loglevel,
        "--without-mingle", "--without-gossip",
    ]  # fmt: skip
