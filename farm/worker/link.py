"""The keeper's link to the records, which may be away: then nothing is renewed, and nothing is lost.

The farm clock stands still while Redis is away, so the leases do too.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from farm.domain.errors import BadInput, RecordsLost, Unreachable
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
    uses_exporter: bool
    ends: float | None
    revoked: str | None = None

    @property
    def owed(self) -> bool:
        """Whether the records wait for word of it from this worker."""
        return self.revoked in (None, "stopping", "limit")


class Link:
    """What the keeper tells the records and asks them. No call raises when Redis is away."""

    def __init__(self, redis_url: str, home: Path) -> None:
        self._url = redis_url
        self._home = home
        self._told = ""
        self._records: Records | None = None
        #: Of the worker: what Fleet.register takes, the pid of its Celery, its card's facts; None until it
        #: has registered.
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

    @property
    def away(self) -> bool:
        """Whether Redis did not answer when it was last asked."""
        return self._records is None

    def beat(self, attempt: Attempt | None) -> float:
        """The worker is alive; it is made known again where the records have forgotten it.

        For how long it has left bells unanswered though it is idle, s.
        """
        me = self.identity
        records = self._open() if me is not None else None
        if records is None or me is None:
            return 0.0
        try:
            unanswered_s = records.fleet.beat(me["worker"])
            if unanswered_s is None:
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
                    keeper=me["keeper"],
                )
            records.look()
            return unanswered_s or 0.0
        except AWAY as error:
            self._lost(error)
            return 0.0

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

    def farewell(self, attempt: Attempt | None, outbox: Outbox, *, stopping: bool, lost: str) -> None:
        """The worker is gone: report the outcome it left, else hand its attempt back.

        lost: what became of it, in a line.
        """
        owed = attempt if attempt is not None and attempt.owed else None
        deadline = time.monotonic() + (ORPHAN_S if owed else 0.0)
        while True:
            records = self._open()
            try:
                if records is not None:
                    if attempt is None:
                        owed = self._claimed(records)
                    if owed is not None:
                        _hand_back(records, owed, outbox, stopping, lost)
                    if self.identity is not None:
                        records.fleet.leave(self.identity["worker"])
                    return
            except AWAY as error:
                self._lost(error)
            if time.monotonic() >= deadline:
                return
            time.sleep(RETRY_S)

    def _claimed(self, records: Records) -> Attempt | None:
        """What the worker had claimed when it died, before it could put it under guard."""
        stage = records.fleet.stage_of(self.identity["worker"]) if self.identity is not None else None
        if stage is None:
            return None
        token, failures = records.claims.fence(stage)
        return Attempt(stage, token, failures, uses_exporter=False, ends=None)


def _hand_back(records: Records, attempt: Attempt, outbox: Outbox, stopping: bool, lost: str) -> None:
    left = outbox.read(attempt.token)
    if left is not None:
        records.claims.done(left.stage, left.token, left.outcome)
        outbox.remove(attempt.token)
    elif stopping:
        records.claims.hand_back(attempt.stage, attempt.token, attempt.failures, "worker stopped")
    else:
        records.claims.lost(attempt.stage, attempt.token, attempt.failures, error=lost)
