"""What a farm keeps on this host's disk, and freeing what nobody needs: artifacts and attempts' folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

from farm.artifacts import Store
from farm.domain.errors import BadInput
from farm.records import Records
from farm.worker.attempts import leftovers
from farm.worker.eviction import Eviction
from farm.worker.places import Places

KINDS = ("export", "reference", "compile")


class Pruning:
    """The store and the attempts below one farm's folder, as its records know them."""

    def __init__(self, home: Path, store: Path, records: Records) -> None:
        self._places = Places(home)
        self._records = records
        self._store = Store(store)

    def overview(self) -> dict[str, Any]:
        """What is there, in bytes.

        {"store": path, "disk_free", "kinds": {kind: {"artifacts", "bytes", "unneeded", "unneeded_bytes"}},
        "attempts": those that may go {"folders", "bytes"},
        "unknown": those that the records lack {"artifacts", "bytes"}}
        """
        known = self._records.artifacts.overview()
        kinds = {}
        for kind in KINDS:
            rows = [row for row in known if row["kind"] == kind]
            spare = [row for row in rows if not row["needed"]]
            kinds[kind] = {
                "artifacts": len(rows),
                "bytes": sum(row["bytes"] for row in rows),
                "unneeded": len(spare),
                "unneeded_bytes": sum(row["bytes"] for row in spare),
            }
        strange = self._records.artifacts.unknown(self._store.keys())
        old = leftovers(self._places, self._records)
        return {
            "store": str(self._store.root),
            "disk_free": int(psutil.disk_usage(str(self._store.root)).free),
            "kinds": kinds,
            "attempts": {"folders": len(old), "bytes": sum(each.size for each in old)},
            "unknown": {"artifacts": len(strange), "bytes": sum(map(self._store.size, strange))},
        }

    def free(self, wanted: int | None) -> list[dict[str, Any]]:
        """Free `wanted` bytes, None: all that may go. What was removed: [{"name", "bytes"}].

        Artifacts first, the least recently asked for first, then attempts, the oldest campaign's first.
        """
        artifacts = self._records.artifacts
        removed = []
        sizes = {row["key"]: row["bytes"] for row in artifacts.overview()}
        spare = [row["key"] for row in artifacts.overview() if not row["needed"]]
        condemned = artifacts.condemn(spare if wanted is None else wanted)
        for key in Eviction(self._store, artifacts, None).remove(condemned):
            removed.append({"name": key, "bytes": sizes.get(key, 0)})
        for left in leftovers(self._places, self._records):
            if wanted is not None and sum(piece["bytes"] for piece in removed) >= wanted:
                break
            left.remove()
            removed.append({"name": str(left.folder), "bytes": left.size})
        return removed

    def free_unknown(self) -> list[dict[str, Any]]:
        """Remove what the records do not know. Raises BadInput while a `farm run` is at work."""
        removed = []
        with self._store.alone() as alone:
            if not alone:
                raise BadInput("--unknown: a `farm run` or `farm export` uses the store; wait until it ends")
            for key in self._records.artifacts.unknown(self._store.keys()):
                removed.append({"name": key, "bytes": self._store.size(key)})
                self._store.remove(key)
        return removed
