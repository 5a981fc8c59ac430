"""A disk of a few kilobytes that a test can make larger: a tmpfs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class SmallDisk:
    """A tmpfs at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def resize(self, size: int) -> None:
        """Room for so many bytes, what is there included."""
        self._mount(f"remount,size={size}")

    def files(self, number: int) -> None:
        """Room for so many files and folders, what is there and the disk's own folder included."""
        self._mount(f"remount,nr_inodes={number}")

    def writable(self, yes: bool) -> None:
        """Whether anything may be written to it."""
        self._mount("remount,rw" if yes else "remount,ro")

    def _mount(self, options: str) -> None:
        subprocess.run(["mount", "-o", options, self.path], check=True, timeout=10)


@contextmanager
def small_disk(path: Path, size: int) -> Iterator[SmallDisk]:
    """A disk of `size` bytes at `path` for the length of the block."""
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "small-disk", path], check=True, timeout=10)
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "-l", path], check=True, timeout=10)
