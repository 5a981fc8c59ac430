"""Locks on files: held for as long as their process lives, seen by every process that shares the files."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TRY_S = 0.02


class Locked(Exception):
    """Another process holds the lock and does not let go."""


@contextmanager
def exclusive(path: Path, limit_s: float) -> Iterator[None]:
    """Hold the lock file for the length of the block. Raises Locked when it is not got within limit_s."""
    fd = open_lock(path)
    try:
        deadline = time.monotonic() + limit_s
        while not try_lock(fd):
            if time.monotonic() >= deadline:
                raise Locked(f"the lock {path} is held by another process")
            time.sleep(_TRY_S)
        yield
    finally:
        os.close(fd)


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold the lock file beside others who share it."""
    fd = open_lock(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        yield
    finally:
        os.close(fd)


@contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Whether nobody holds the lock file now; then nobody gets it within the block."""
    fd = open_lock(path)
    try:
        yield try_lock(fd)
    finally:
        os.close(fd)


def open_lock(path: Path) -> int:
    """A descriptor of the lock file, made where there is none."""
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)


def try_lock(fd: int) -> bool:
    """Take the lock for this process alone, if nobody has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock file."""
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(fd)
    finally:
        os.close(fd)
