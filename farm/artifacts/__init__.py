"""The content-addressed store of artifacts."""

from __future__ import annotations

from farm.artifacts.locks import Locked
from farm.artifacts.store import Corrupt, Manifest, Store

__all__ = ["Corrupt", "Locked", "Manifest", "Store"]
