"""A local folder of artifacts: built aside, described by a manifest, published by one rename, read-only.

Layout: `objects/<key>/` holds an artifact's files and `manifest.json`; `building/<key>.<token>/` what is
being made. A folder under `objects/` is whole: the manifest is written last and the rename comes after it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


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

    def begin(self, key: str, token: str) -> Path:
        """An empty folder to build the artifact in."""
        folder = self.root / "building" / f"{key}.{token}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def abandon(self, folder: Path) -> None:
        """Remove what a build left."""
        shutil.rmtree(folder, ignore_errors=True)

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
                _sync(self.path(key).parent)
                return manifest

    def remove(self, key: str) -> None:
        """Take the artifact away: renamed first, so that nobody sees half of it."""
        grave = self.root / "building" / f"{key}.removed.{secrets.token_hex(4)}"
        try:
            self.path(key).rename(grave)
        except FileNotFoundError:
            return
        shutil.rmtree(grave, ignore_errors=True)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
