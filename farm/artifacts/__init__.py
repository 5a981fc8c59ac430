"""The content-addressed store of artifacts."""

from __future__ import annotations

from farm.artifacts.store import Corrupt, Locked, Manifest, Store

__all__ = ["Corrupt", "Locked", "Manifest", "Store"]
