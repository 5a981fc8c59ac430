"""Under modelled timing the programs of one root compute in turn, each on every CPU of the host.

Their times are the model's, so nothing is measured; but eight cards that computed at once would hold eight
networks in memory. A process that dies gives its turn back.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .locks import LockFile, LockTimeout

FILE = "compute.lock"
#: A line is said each time that this many seconds have passed: a caller may end a tool that seems to hang.
_PATIENCE_S = 20.0
#: Turns are a courtesy to the host's memory: after this many lines the program computes all the same.
_LINES = 7


@contextmanager
def turn(state: Path) -> Iterator[None]:
    """Wait for the turn of this process among those of the root whose state folder is `state`; hold it."""
    with LockFile(state / FILE) as lock:
        for _ in range(_LINES):
            try:
                lock.lock(0, timeout=_PATIENCE_S)
                break
            except LockTimeout:
                print("Emulated card: waiting for the host's CPUs", file=sys.stderr, flush=True)
        yield
