"""How a stage starts children and holds a card, whoever really does it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from farm.domain.errors import StageFailed
from farm.sdk.child import ChildResult, ChildSpec, run_child
from farm.sdk.lock import CardLock

_RETRY_S = 0.1


@dataclass(frozen=True)
class CardLockRequest:
    """The hold that a run asks for: the whole card, or (cores not None) that many of its NSPs.

    qid: the card's number now, noted in the lock's file for those who ask about held cards.
    """

    folder: Path
    pci_address: str
    nsp_total: int
    cores: int | None = None
    qid: int | None = None


@dataclass(frozen=True)
class HeldCores:
    """A hold on a card. cores: the NSP bytes held, None for the whole card."""

    request: CardLockRequest
    cores: tuple[int, ...] | None


class Launcher(Protocol):
    """Runs children for a stage. In the farm the keeper does; alone, `DirectLauncher`."""

    def run(self, spec: ChildSpec) -> ChildResult:
        """Run a child to its end; while cores are held it inherits the hold."""
        ...

    def hold(self, card: CardLockRequest, wait_s: float) -> AbstractContextManager[HeldCores]:
        """Hold the card for the length of the block; StageFailed("busy") when not got within wait_s."""
        ...


class DirectLauncher:
    """Runs children as this process's own and holds the card's lock itself, one hold at a time."""

    def __init__(self, cancelled: Callable[[], bool] | None = None) -> None:
        self._cancelled = cancelled
        self._lock: CardLock | None = None

    def run(self, spec: ChildSpec) -> ChildResult:
        """See `Launcher.run`."""
        return run_child(spec, () if self._lock is None else (self._lock.fileno(),), self._cancelled)

    @contextmanager
    def hold(self, card: CardLockRequest, wait_s: float) -> Iterator[HeldCores]:
        """See `Launcher.hold`."""
        lock = CardLock(card.folder, card.pci_address, card.nsp_total)
        try:
            held = self._take(lock, card, time.monotonic() + wait_s)
            self._lock = lock
            yield held
        finally:
            self._lock = None
            lock.release()

    def _take(self, lock: CardLock, card: CardLockRequest, deadline: float) -> HeldCores:
        while True:
            held = try_hold(lock, card)
            if held is not None:
                return held
            if time.monotonic() >= deadline or (self._cancelled is not None and self._cancelled()):
                raise lock_taken(lock)
            time.sleep(_RETRY_S)


def try_hold(lock: CardLock, card: CardLockRequest) -> HeldCores | None:
    """Take what the request asks for, or None where others hold it."""
    cores = None
    if card.cores is None:
        if not lock.try_exclusive():
            return None
    elif (cores := lock.try_share(card.cores)) is None:
        return None
    if card.qid is not None:
        lock.note(card.qid)
    return HeldCores(card, cores)


def lock_taken(lock: CardLock) -> StageFailed:
    """The failure to raise when a hold was not got in time: it says who holds the card."""
    pids = ", ".join(map(str, lock.holder_pids())) or "not visible to this user"
    return StageFailed("busy", f"card {lock.path.stem} is held by another process (pid {pids})")
