"""A local folder of artifacts: built aside, described by a manifest, published by one rename, read-only.

Layout: `objects/<key>/` holds an artifact's files and `manifest.json`; `building/<key>.<token>/` what is
being made, with a `.lock` beside it that its builder holds for as long as it lives; `building/*.removed.*`
what is being removed. A folder under `objects/` is whole: the manifest is written last and the rename comes
after it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from farm.artifacts.locks import alone, exclusive, is_held, open_lock, shared, try_lock

MANIFEST = "manifest.json"
#: How long the store's lock is waited for; it is held for a few renames at a time.
LOCK_S = 30.0
_REMOVED = ".removed."


class Corrupt(Exception):
    """An artifact's files are not what its manifest says."""


@dataclass(frozen=True)
class Manifest:
    """What an artifact holds. files: path below the folder -> [bytes, sha256]; facts: the builder's own."""

    key: str
    facts: Mapping[str, Any]
    files: Mapping[str, tuple[int, str]] = field(default_factory=dict)


class Store:
    """Artifacts below `root`, addressed by key (`<kind>-<digest>`)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._verified: dict[tuple[str, int, int, int], str] = {}
        self._builds: dict[Path, int] = {}
        for folder in (root / "objects", root / "building"):
            folder.mkdir(parents=True, exist_ok=True)

    def path(self, key: str) -> Path:
        """Where the artifact is, or would be."""
        return self.root / "objects" / key

    def open(self, key: str) -> Manifest | None:
        """The artifact's manifest when it is here, each file checked against it; None when it is not.

        A file's digest is computed once per process and per inode, size and modification time.
        Raises Corrupt after moving a bad artifact out of the way.
        """
        folder = self.path(key)
        try:
            raw = json.loads((folder / MANIFEST).read_text())
            manifest = Manifest(raw["key"], raw["facts"], {n: (s, d) for n, (s, d) in raw["files"].items()})
            if manifest.key != key:
                raise ValueError(f"it is of {manifest.key}")
        except (FileNotFoundError, NotADirectoryError) as error:
            if not folder.exists():
                return None
            self.remove(key)
            raise Corrupt(f"artifact {key}: its manifest is missing") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.remove(key)
            raise Corrupt(f"artifact {key}: its manifest cannot be read: {error}") from error
        for name, (size, digest) in manifest.files.items():
            fault = self._fault(folder / name, size, digest)
            if fault:
                self.remove(key)
                raise Corrupt(f"artifact {key}: {name} {fault}")
        return manifest

    def _fault(self, path: Path, size: int, digest: str) -> str | None:
        try:
            info = path.stat()
        except FileNotFoundError:
            return "is missing"
        if info.st_size != size:
            return f"has {info.st_size} bytes instead of {size}"
        mark = (str(path), info.st_ino, info.st_size, info.st_mtime_ns)
        if mark not in self._verified:
            self._verified[mark] = file_digest(path)
        return None if self._verified[mark] == digest else "does not have the digest of its manifest"

    def keys(self) -> list[str]:
        """The artifacts that are here."""
        return sorted(path.name for path in (self.root / "objects").iterdir())

    def size(self, key: str) -> int:
        """Bytes of the artifact's files, each hard-linked one once; 0 when it is not here."""
        return tree_bytes(self.path(key))

    def total(self) -> int:
        """Bytes of all artifacts together."""
        return tree_bytes(self.root / "objects")

    def locked(self) -> AbstractContextManager[None]:
        """Hold the store's lock for the length of the block. Raises Locked after LOCK_S seconds."""
        return exclusive(self.root / "lock", LOCK_S)

    def in_use(self) -> AbstractContextManager[None]:
        """For the length of the block, nobody removes what the records do not know: a job without records."""
        return shared(self.root / "users")

    def alone(self) -> AbstractContextManager[bool]:
        """Whether nobody is `in_use` now; then nobody gets to be within the block."""
        return alone(self.root / "users")

    def begin(self, key: str, token: str) -> Path:
        """An empty folder to build the artifact in, this process's own until it is published or abandoned."""
        folder = self.root / "building" / f"{key}.{token}"
        with self.locked():
            lock = open_lock(_lock_of(folder))
            try_lock(lock)
            self._builds[folder] = lock
            shutil.rmtree(folder, ignore_errors=True)
            try:
                folder.mkdir(parents=True)
            except OSError:
                self._end(folder)
                raise
        return folder

    def abandon(self, folder: Path) -> None:
        """Remove what a build left."""
        shutil.rmtree(folder, ignore_errors=True)
        self._end(folder)

    def _end(self, folder: Path) -> None:
        _lock_of(folder).unlink(missing_ok=True)
        lock = self._builds.pop(folder, None)
        if lock is not None:
            os.close(lock)

    def sweep(self) -> list[str]:
        """Remove what builders left that are dead, and what was being removed when its remover died.

        Answers the names. A living process's build is never touched, on whichever host it is.
        """
        graves, left = [], []
        with self.locked():
            for path in sorted((self.root / "building").iterdir()):
                if path.suffix == ".lock":
                    if not path.with_suffix("").exists() and not is_held(path):
                        path.unlink(missing_ok=True)
                elif _REMOVED in path.name:
                    graves.append(path)
                elif not is_held(_lock_of(path)):
                    grave = self._grave(path.name)
                    path.rename(grave)
                    _lock_of(path).unlink(missing_ok=True)
                    graves.append(grave)
                    left.append(path.name)
        for grave in graves:
            shutil.rmtree(grave, ignore_errors=True)
        return left

    def publish(self, key: str, folder: Path, facts: Mapping[str, Any]) -> Manifest:
        """Describe, fsync and seal the built folder, and rename it into place.

        When another builder was first, its artifact stays and this one is removed.
        """
        files: dict[str, tuple[int, str]] = {}
        digests: dict[int, str] = {}
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            info = path.stat()
            # Hard links (an unclipped model is its own clipped form) are read once.
            if info.st_ino not in digests:
                digests[info.st_ino] = file_digest(path)
            files[str(path.relative_to(folder))] = (info.st_size, digests[info.st_ino])
            _sync(path)
            path.chmod(0o444)
        manifest = Manifest(key, dict(facts), files)
        target = folder / MANIFEST
        target.write_text(json.dumps(asdict(manifest), separators=(",", ":")))
        _sync(target)
        target.chmod(0o444)
        for inner in (folder, *(p for p in folder.rglob("*") if p.is_dir())):
            _sync(inner)
        while True:
            try:
                folder.rename(self.path(key))
            except OSError:
                if not self.path(key).exists():
                    raise
                # A bad one is moved out of the way by `open`, and this one takes its place.
                with contextlib.suppress(Corrupt):
                    first = self.open(key)
                    if first is not None:
                        self.abandon(folder)
                        return first
            else:
                self._end(folder)
                _sync(self.path(key).parent)
                return manifest

    def bury(self, key: str) -> Path:
        """Take the artifact out of sight in one step; the folder that is left to remove (`shutil.rmtree`)."""
        grave = self._grave(key)
        with contextlib.suppress(FileNotFoundError):
            self.path(key).rename(grave)
        return grave

    def _grave(self, name: str) -> Path:
        return self.root / "building" / f"{name}{_REMOVED}{secrets.token_hex(4)}"

    def remove(self, key: str) -> None:
        """Take the artifact away."""
        shutil.rmtree(self.bury(key), ignore_errors=True)


def left_behind(root: Path) -> list[Path]:
    """What dead builders and removers left below a store's root, for `Store.sweep` to remove."""
    return [
        path
        for path in sorted((root / "building").iterdir())
        if path.suffix != ".lock" and (_REMOVED in path.name or not is_held(_lock_of(path)))
    ]


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def tree_bytes(folder: Path) -> int:
    """Bytes of the files below a folder, each hard-linked one once; 0 for a folder that is not there."""
    sizes: dict[tuple[int, int], int] = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            info = path.lstat()
            sizes[info.st_dev, info.st_ino] = info.st_size
    return sum(sizes.values())


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
