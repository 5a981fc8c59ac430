"""Room in the store: what no unfinished stage needs makes way, the least recently asked for first."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from functools import partial

import psutil

from farm.artifacts import Store
from farm.records.artifacts import Artifacts
from farm.records.connection import patiently

log = logging.getLogger(__name__)

#: The share of what is free (and what the store holds already) that a store may take by default.
STORE_SHARE = 0.5


def default_store_limit(store: Store) -> int:
    """Bytes a store may hold where nobody said how many: half of its disk's free space and of its own."""
    return int((psutil.disk_usage(str(store.root)).free + store.total()) * STORE_SHARE)


class Eviction:
    """Removes what the records have condemned, of one store. limit: bytes the store is to keep to."""

    def __init__(self, store: Store, artifacts: Artifacts, limit: int | None) -> None:
        self.store = store
        self.artifacts = artifacts
        self.limit = limit

    def make_room(self) -> list[str]:
        """Bring the store and what claimed stages will add below the limit; the keys that were removed."""
        limit = self.limit
        if limit is None:
            return []
        return self.remove(patiently(lambda: self.artifacts.over(limit)))

    def remove(self, keys: Sequence[str]) -> list[str]:
        """Remove those of the artifacts that are condemned still; their keys.

        Records and store are changed under the store's lock, so that who meets the entry meets the folder.
        """
        graves = {}
        if keys:
            with self.store.locked():
                for key in keys:
                    if patiently(partial(self.artifacts.is_condemned, key)):
                        graves[key] = self.store.bury(key)
                        patiently(partial(self.artifacts.gone, key))
        for key, grave in graves.items():
            shutil.rmtree(grave, ignore_errors=True)
            log.info("%s removed to make room", key, extra={"action": "evict"})
        return list(graves)
