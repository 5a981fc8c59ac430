"""The keeper's link to the records, which may be away: then nothing is renewed, and nothing is lost.

The farm clock stands still while Redis is away, so the leases do too.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from farm.domain.errors import BadInput, RecordsLost, Unreachable
from farm.domain.states import after_failure
from farm.records import Records, open_records
from farm.worker.outbox import Outbox

log = logging.getLogger(__name__)

#: The records are away, or are not those this keeper knows, or of a newer schema.
AWAY = (RedisError, Unreachable, BadInput)
#: How long an orphaned keeper goes on trying to hand its attempt back while Redis is away.
ORPHAN_S = 600.0
RETRY_S = 0.5


@dataclass
class Attempt:
    """What is guarded: the fence, and what the verdict on a lost worker needs."""

    stage: str
    token: str
    failures: dict[str, int]
    cards_failed: list[str]
    uses_exporter: bool
    ends: float | None
    revoked: str | None = None

    @property
    def owed(self) -> bool:
        """Whether the records wait for word of it from this worker."""
        return self.revoked in (None, "stopping")


class Link:
    """What the keeper tells the records and asks them. No call raises when Redis is away."""

    def __init__(self, redis_url: str, home: Path) -> None:
        self._url = redis_url
        self._home = home
        self._told = ""
        self._records: Records | None = None
        #: Of the worker: worker, queues, node, pid, card, its facts, memory, store; None until it registered.
        self.identity: dict[str, Any] | None = None

    def _open(self) -> Records | None:
        if self._records is None:
            try:
                self._records = open_records(self._url, home=self._home, retries=0, timeout_s=2.0)
                self._told = ""
            except AWAY as error:
                self._lost(error)
        return self._records

    def _lost(self, error: Exception) -> None:
        """The link is down. Other records than those it knew are told of, once."""
        self._records = None
        if isinstance(error, RecordsLost | BadInput) and not self._told:
            self._told = str(error)
            log.warning("%s", error)

    def beat(self, attempt: Attempt | None) -> None:
        """The worker is alive; it is made known again where the records have forgotten it."""
        me = self.identity
        records = self._open() if me is not None else None
        if records is None or me is None:
            return
        try:
            if not records.fleet.beat(me["worker"]):
                if me["card"] and records.fleet.health(me["card"]) is None:
                    # Records that were adopted may be from before the card was told of.
                    records.fleet.report_card(me["card"], me["facts"])
                records.fleet.register(
                    me["worker"],
                    me["queues"],
                    node=me["node"],
                    pid=me["pid"],
                    card=me["card"],
                    stage=attempt.stage if attempt else "",
                    memory=me["memory"],
                    store=me["store"],
                )
            records.look()
        except AWAY as error:
            self._lost(error)

    def renew(self, attempt: Attempt) -> str:
        """Put the lapse of the attempt's lease off: ok, cancelled or lost."""
        records = self._open() if self.identity is not None else None
        if records is None or self.identity is None:
            return "ok"
        try:
            return records.claims.renew(attempt.stage, attempt.token, self.identity["worker"])
        except AWAY as error:
            self._lost(error)
            return "ok"

    def stopping(self) -> None:
        """The worker takes nothing more. Unsaid, Celery takes no more bells by itself."""
        if self._records is not None and self.identity is not None:
            try:
                self._records.fleet.stopping(self.identity["worker"])
            except AWAY as error:
                self._lost(error)

    def farewell(self, attempt: Attempt | None, outbox: Outbox, *, stopping: bool) -> None:
        """The worker is gone: report the outcome it left, else hand its attempt back."""
        owed = attempt if attempt is not None and attempt.owed else None
        deadline = time.monotonic() + (ORPHAN_S if owed else 0.0)
        while True:
            records = self._open()
            try:
                if records is not None:
                    if owed is not None:
                        _hand_back(records, owed, outbox, stopping)
                    if self.identity is not None:
                        records.fleet.leave(self.identity["worker"])
                    return
            except AWAY as error:
                self._lost(error)
            if time.monotonic() >= deadline:
                return
            time.sleep(RETRY_S)


def _hand_back(records: Records, attempt: Attempt, outbox: Outbox, stopping: bool) -> None:
    left = outbox.read(attempt.token)
    if left is not None:
        records.claims.done(left.stage, left.token, left.outcome)
        outbox.remove(attempt.token)
    elif stopping:
        records.claims.hand_back(attempt.stage, attempt.token, attempt.failures, "worker stopped")
    else:
        # No pause: the fault was this process, and the next may be elsewhere.
        verdict = replace(after_failure("host", attempt.failures, attempt.cards_failed), delay_s=0.0)
        records.claims.ended(
            attempt.stage,
            attempt.token,
            verdict,
            error="the worker process died; see its log and the kernel's",
            note="worker lost",
        )
