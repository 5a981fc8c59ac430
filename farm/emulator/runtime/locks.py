"""Open-file-description byte-range locks: the kernel lets go of them when the last holder of the file dies.

An OFD lock belongs to the open file, not to the process: two activations of one process exclude each other,
and a child that inherits the descriptor keeps the lock. Source: Linux fcntl(2), "Open file description
locks".
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from pathlib import Path

# struct flock of 64-bit Linux: type, whence, start, length, pid (must be 0), padding.
_FLOCK = "hhqqi4x"


class LockTimeout(Exception):
    """A lock was not to be had in time."""


def _flock(kind: int, start: int, length: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, start, length, 0)


class LockFile:
    """One open file whose bytes can be locked. Closing it lets go of everything it holds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def close(self) -> None:
        """Close the file, which releases its locks unless a child has inherited it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> LockFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def try_lock(self, start: int, length: int) -> bool:
        """Lock the bytes [start, start + length); False when somebody else holds one of them."""
        try:
            fcntl.fcntl(self.fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK, start, length))
        except (BlockingIOError, PermissionError):
            return False
        return True

    def lock(self, start: int, length: int = 1, timeout: float = 10.0) -> None:
        """Lock the bytes, waiting up to `timeout` seconds, then LockTimeout."""
        deadline = time.monotonic() + timeout
        pause = 0.0005
        while not self.try_lock(start, length):
            if time.monotonic() > deadline:
                raise LockTimeout(f"{self.path}: byte {start} is still locked after {timeout:g} s")
            time.sleep(pause)
            pause = min(pause * 2, 0.02)

    def unlock(self, start: int, length: int = 1) -> None:
        """Let go of the bytes [start, start + length)."""
        fcntl.fcntl(self.fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_UNLCK, start, length))

    def locked_ranges(self, start: int, length: int) -> list[tuple[int, int]]:
        """The (start, end) ranges in [start, start + length) held through other open files, in order."""
        found: list[tuple[int, int]] = []
        pending = [(start, start + length)]
        while pending:
            low, high = pending.pop()
            reply = fcntl.fcntl(self.fd, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, low, high - low))
            kind, _, at, size, _ = struct.unpack(_FLOCK, reply)
            if kind == fcntl.F_UNLCK:
                continue
            # The kernel names one conflicting lock, not the first one: look on both sides of it.
            taken = (max(at, low), min(at + size, high) if size else high)
            found.append(taken)
            pending += [part for part in ((low, taken[0]), (taken[1], high)) if part[0] < part[1]]
        return sorted(found)

    def held_elsewhere(self, start: int, length: int) -> int:
        """How many bytes of [start, start + length) are held through other open files."""
        return sum(high - low for low, high in self.locked_ranges(start, length))
