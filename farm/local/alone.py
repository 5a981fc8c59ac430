"""Become another program once nobody else holds a lock, and hold it to that program's end.

python -m farm.local.alone LOCK PROGRAM [ARGUMENT]...
"""

from __future__ import annotations

import fcntl
import os
import sys


def alone(lock: str, argv: list[str]) -> None:
    """Wait for the lock, then exec: the open descriptor goes with the program, and so does the lock."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.set_inheritable(descriptor, True)
    os.execv(argv[0], argv)


if __name__ == "__main__":
    alone(sys.argv[1], sys.argv[2:])
