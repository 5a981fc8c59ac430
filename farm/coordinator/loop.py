"""The coordinator's loop. It remembers nothing: any number may run, be killed and start again.

Each pass advances the farm clock (which follows Redis's time once, however many coordinators tick), hands
back the stages whose lease has lapsed, and rings queues where work and an idle worker coincide. Where there
is nothing of that, it recounts.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType

from farm.bells import Bells, make_app
from farm.domain.errors import Unreachable
from farm.records import Records, open_records
from farm.records.connection import AWAY, patiently

log = logging.getLogger(__name__)

#: Pause between two passes. A finisher rings for what it released itself; this finds the rest.
PASS_S = 0.2


class Coordinator:
    """One pass at a time over the records."""

    def __init__(self, records: Records, bells: Bells, name: str | None = None) -> None:
        self.records = records
        self.bells = bells
        self.name = name or f"{os.uname().nodename}:{os.getpid()}:{secrets.token_hex(2)}"

    def step(self) -> int:
        """One pass; the number of bells rung."""
        lapsed = self.records.fleet.tick(self.name)
        self.records.look()
        for stage in lapsed:
            self._lapse(stage)
        queues = self.records.fleet.ring()
        undelivered = self.bells.ring(queues)
        self.records.fleet.unring(undelivered)
        if not lapsed and not queues:
            self._recount()
        return len(queues) - len(undelivered)

    def _recount(self) -> None:
        """Nothing is to be done: hold the counters against the records, a little further each time."""
        for drift in self.records.recount.step():
            log.warning("a counter had drifted and was repaired: %s", drift, extra={"action": "drift"})

    def _lapse(self, stage: str) -> None:
        """Nobody renewed the lease: keeper or host are lost. The stage becomes claimable again."""
        token, failures = self.records.claims.fence(stage)
        answer = self.records.claims.lost(
            stage, token, failures, error="the lease lapsed: its keeper or its host is gone", lapsed=True
        )
        log.warning("lease of %s lapsed (%s)", stage, answer, extra={"action": "lapse"})

    def run(self, stop: threading.Event) -> None:
        """Pass after pass until `stop` is set; Redis may go and come back."""
        while not stop.wait(PASS_S):
            with suppress(*AWAY, Unreachable):  # Raised at last when it is to stop meanwhile.
                patiently(self.step, give_up=stop.is_set, pause=stop.wait)


def main(redis_url: str, broker_url: str, home: Path) -> int:
    """A coordinator in the foreground until SIGTERM or SIGINT. Returns the exit status."""
    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    records = patiently(lambda: open_records(redis_url, home=home), give_up=stop.is_set, pause=stop.wait)
    Coordinator(records, Bells(make_app(broker_url))).run(stop)
    return 0
