"""A disk of a few kilobytes that a test can make larger: a tmpfs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class SmallDisk:
    """A tmpfs at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def resize(self, size: int) -> None:
        """Room for so many bytes, what is there included."""
        _mount("-o", f"remount,size={size}", self.path)

    def files(self, number: int) -> None:
        """Room for so many files and folders, what is there and the disk's own folder included."""
        _mount("-o", f"remount,nr_inodes={number}", self.path)

    def writable(self, yes: bool) -> None:
        """Whether anything may be written to it."""
        _mount("-o", "remount,rw" if yes else "remount,ro", self.path)


@contextmanager
def small_disk(path: Path, size: int) -> Iterator[SmallDisk]:
    """A disk of `size` bytes at `path` for the length of the block. The test is skipped where nothing may be
    mounted, but not in CI."""
    path.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={size}", "small-disk", path)
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "-l", path], check=True, timeout=10)


def _mount(*options: str | Path) -> None:
    done = subprocess.run(["mount", *options], capture_output=True, text=True, timeout=10)
    if done.returncode == 0:
        return
    if "CI" not in os.environ and any(word in done.stderr for word in ("denied", "superuser", "permitted")):
        pytest.skip(f"needs a file system of its own: {done.stderr.strip()}")
    raise AssertionError(done.stderr)
