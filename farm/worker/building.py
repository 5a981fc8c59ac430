"""How a stage gets its artifact: found in the store, built here, or left to whoever builds it already."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from farm.artifacts import Corrupt, Manifest, Store
from farm.domain.errors import BadInput
from farm.records.claims import Claim, Claims
from farm.records.connection import patiently
from farm.worker.client import Revoked
from farm.worker.eviction import Eviction

log = logging.getLogger(__name__)

Build = Callable[[Path], Mapping[str, Any]]


class Parked(Exception):
    """Another attempt builds the artifact named: the stage waits for it, and this attempt is over."""


@dataclass(frozen=True)
class Built:
    """An artifact that is there. seconds: how long its build took, None when it was reused."""

    manifest: Manifest
    seconds: float | None
    size: int

    @property
    def cached(self) -> bool:
        """Whether it was there already."""
        return self.seconds is None

    def outcome(self) -> dict[str, Any]:
        """What every outcome of a stage with an artifact says. bytes: what the artifact takes on disk."""
        manifest = self.manifest
        return {"key": manifest.key, "cached": self.cached, "seconds": self.seconds, "bytes": self.size}


class Builder(Protocol):
    """Gets the artifact of a key, built by `build` in the folder it is given when nobody has it."""

    def get(self, key: str, build: Build, *, must_exist: bool = False) -> Built:
        """must_exist: a missing artifact is BadInput."""
        ...


def _present(store: Store, key: str) -> Manifest | None:
    """The artifact if it is here and whole; a bad one is removed and counts as absent."""
    try:
        return store.open(key)
    except Corrupt as error:
        log.warning("%s: made again", error, extra={"action": "corrupt"})
        return None


def _make(store: Store, key: str, token: str, build: Build) -> Built:
    folder = store.begin(key, token)
    started = time.monotonic()
    try:
        facts = build(folder)
        seconds = time.monotonic() - started
        return Built(store.publish(key, folder, facts), round(seconds, 3), store.size(key))
    except BaseException:
        store.abandon(folder)
        raise


def _missing(store: Store, key: str) -> BadInput:
    return BadInput(
        f"--run-only, but artifact {key} is not in the store {store.root}; leave --run-only out to make it"
    )


class StoreBuilder:
    """Builds for one process alone: `farm run`, `farm export`."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def get(self, key: str, build: Build, *, must_exist: bool = False) -> Built:
        """See `Builder.get`."""
        found = _present(self.store, key)
        if found is not None:
            return Built(found, None, self.store.size(key))
        if must_exist:
            raise _missing(self.store, key)
        return _make(self.store, key, secrets.token_hex(8), build)


class SharedBuilder:
    """Builds for a claimed stage: one builder per artifact in the whole farm, others wait for it."""

    def __init__(self, store: Store, claims: Claims, claim: Claim, eviction: Eviction) -> None:
        self.store = store
        self.claims = claims
        self.claim = claim
        self.eviction = eviction

    def get(self, key: str, build: Build, *, must_exist: bool = False) -> Built:
        """See `Builder.get`. Raises Parked, or Revoked when the stage is another's."""
        while True:
            answer = patiently(lambda: self.claims.build(self.claim, key))
            if answer == "lost":
                raise Revoked("lost")
            if answer == "wait":
                raise Parked(key)
            if answer == "condemned":
                self.eviction.remove([key])
                continue
            found = _present(self.store, key)
            if found is not None:
                return Built(found, None, self.store.size(key))
            if answer == "build":
                if must_exist:
                    raise _missing(self.store, key)
                self.eviction.make_room()
                return _make(self.store, key, self.claim.token, build)
            patiently(lambda: self.claims.absent(key))
