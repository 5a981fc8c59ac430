"""When programs were on the emulated cards, from the cards' own logs and the ends of the processes."""

from __future__ import annotations

import json
import os
import selectors
import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

#: How often the logs are looked at, s. A program starts in far more than that.
LOOK_S = 0.02


@dataclass
class Span:
    """One activation of a card, on the monotonic clock. ended: the program's own word, else its death's."""

    slot: int
    pid: int
    start: float
    end: float | None = None
    #: Whether the log has the end of it: a killed program writes none.
    logged: bool = False


class CardWatch:
    """Follows `state/card-<slot>.log` of an emulated root in a thread, until `close`.

    A program that is killed never logs that it let its card go; its process is watched instead, so that the
    span ends when the process does, at most a look late.
    """

    def __init__(self, root: Path, cards: int) -> None:
        self.spans: list[Span] = []
        self._logs = [root / "state" / f"card-{slot}.log" for slot in range(cards)]
        self._read = [0] * cards
        self._watch = selectors.DefaultSelector()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="card-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching; what is still on a card stays open."""
        self._end.set()
        self._thread.join()
        for key in list(self._watch.get_map().values()):
            os.close(key.fd)
        self._watch.close()

    def overlaps(self) -> list[str]:
        """Programs that were on one card at a time."""
        found = []
        for slot in range(len(self._logs)):
            spans = sorted((s for s in self.spans if s.slot == slot), key=lambda s: s.start)
            for first, second in pairwise(spans):
                if first.end is None or second.start < first.end:
                    found.append(f"card {slot}: {first} and {second}")
        return found

    def _run(self) -> None:
        while not self._end.is_set():
            self._gone(LOOK_S)
            self._look()
        self._look()
        self._gone(0)

    def _look(self) -> None:
        for slot, log in enumerate(self._logs):
            try:
                with log.open("rb") as stream:
                    stream.seek(self._read[slot])
                    block = stream.read()
            except FileNotFoundError:
                continue
            whole = block[: block.rfind(b"\n") + 1]
            self._read[slot] += len(whole)
            for line in whole.splitlines():
                self._note(slot, json.loads(line))

    def _note(self, slot: int, event: dict[str, Any]) -> None:
        pid, at = int(event["pid"]), float(event["monotonic"])
        if event["event"] == "activate":
            span = Span(slot, pid, at)
            self.spans.append(span)
            try:
                self._watch.register(os.pidfd_open(pid), selectors.EVENT_READ, span)
            except ProcessLookupError:
                span.end = time.monotonic()
        else:
            for span in self.spans:
                if (span.slot, span.pid, span.logged) == (slot, pid, False):
                    span.end, span.logged = at, True

    def _gone(self, timeout: float) -> None:
        if not self._watch.get_map():
            self._end.wait(timeout)
            return
        for key, _ in self._watch.select(timeout):
            span: Span = key.data
            span.end = span.end or time.monotonic()
            self._watch.unregister(key.fd)
            os.close(key.fd)
