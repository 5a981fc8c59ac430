"""The content-addressed store of artifacts."""

from __future__ import annotations

from farm.artifacts.store import Corrupt, Manifest, Store

__all__ = ["Corrupt", "Manifest", "Store"]
