"""Counters held against the records they count, a little at a time while nothing else is to be done."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from farm.domain.states import FINAL
from farm.records import keys
from farm.records.scripts import Scripts

#: Jobs looked at in one step, so that the coordinator's pass stays short.
BATCH = 500
#: Pause between two looks at all campaigns, s.
PAUSE_S = 10.0


class Recount:
    """Repairs what drifted: only a defect, or a hand in the records, can make it.

    A campaign is counted when it has changed since this object last counted it. What changes while it is
    counted is counted again at the next look.
    """

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts
        self._redis = scripts.client
        self._counted: dict[str, str] = {}
        self._look: Iterator[list[str]] = iter(())
        self._next = 0.0

    def step(self) -> list[str]:
        """Count a little further, unless some stage is claimed; a text for each counter that was repaired."""
        if self._redis.exists(keys.LEASES):
            return []
        found = next(self._look, None)
        if found is None:
            if time.monotonic() < self._next:
                return []
            self._next = time.monotonic() + PAUSE_S
            self._look = self._all()
            found = next(self._look)
        return found

    def drift(self) -> int:
        """How many counters were ever repaired."""
        return int(self._redis.hget(keys.META, "drift") or 0)

    def _all(self) -> Iterator[list[str]]:
        yield list(self._scripts.run("restock"))
        for campaign in self._redis.zrange(keys.CAMPAIGNS, 0, -1):
            changes = self._redis.hget(keys.campaign(campaign), "changes") or "0"
            if self._counted.get(campaign) != changes:
                yield from self._campaign(campaign, changes)

    def _campaign(self, campaign: str, changes: str) -> Iterator[list[str]]:
        counters: Counter[str] = Counter()
        finished_s = 0.0
        seen: set[str] = set()
        for start in range(0, self._redis.llen(keys.campaign_jobs(campaign)), BATCH):
            jobs = self._redis.lrange(keys.campaign_jobs(campaign), start, start + BATCH - 1)
            found: set[str] = set()
            for state, stages in self._read(map(keys.job, jobs), "state", "stages"):
                counters[f"j:{state}"] += 1
                found.update(json.loads(stages or "{}").values())
            while found := found - seen:
                seen |= found
                names = list(found)
                fields = ("kind", "state", "expected", "needs", "repairs")
                for name, (kind, state, expected, needs, repairs) in zip(
                    names, self._read(map(keys.stage, names), *fields), strict=True
                ):
                    counters[f"s:{kind}:{state}"] += 1
                    if kind == "run" and state in FINAL:
                        finished_s += float(expected or 0)
                    # A job names a stage or the newest of its repairs.
                    found.update(json.loads(needs or "[]"), [name.partition("~")[0]])
                    found.update(f"{name}~{n}" for n in range(1, int(repairs or 0) + 1))
            yield []
        told = json.dumps({**counters, "expected_done": finished_s})
        drift = self._scripts.run("recount", campaign, changes, told)
        if drift is not None:
            self._counted[campaign] = changes
            yield [f"{campaign} {text}" for text in drift]

    def _read(self, names: Iterator[str], *fields: str) -> list[list[Any]]:
        pipe = self._redis.pipeline(transaction=False)
        for name in names:
            pipe.hmget(name, *fields)
        return list(pipe.execute())
