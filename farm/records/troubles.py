"""What went wrong in the newest campaigns, by cause: what failed, what was overcome, what is doubtful."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from farm.domain.job import STAGE_KINDS
from farm.records import keys
from farm.records.connection import Client
from farm.records.queries import Queries, repaired

#: How an attempt may end with nothing wrong.
_WELL = {"done", "parked", "taken over", "cancelled", "worker stopped"}
#: Flags that say how a result was made, not that it is to be doubted.
_NO_DOUBT = {"cached", "shared_card", "untrimmed"}


class Troubles:
    """Looks through the newest campaigns; causes come with the most frequent first."""

    def __init__(self, client: Client, queries: Queries) -> None:
        self._redis = client
        self._queries = queries

    def failures(self, campaigns: int) -> list[dict[str, Any]]:
        """The stages that failed, a record for each cause.

        {"campaign", "stage": kind, "error_kind", "error", "stages": how many, "job": one it concerns}
        """
        found: dict[tuple[str, ...], dict[str, Any]] = {}
        for campaign in self._newest(campaigns):
            counts = self._redis.hmget(keys.campaign(campaign), [f"s:{kind}:failed" for kind in STAGE_KINDS])
            if not any(int(count or 0) for count in counts):
                continue
            for job, kind, _, stage in self._stages(campaign):
                if stage["state"] != "failed":
                    continue
                cause = (campaign, kind, stage.get("error_kind") or "", stage.get("error") or "failed")
                entry = found.setdefault(
                    cause, _entry(("campaign", "stage", "error_kind", "error"), cause, job)
                )
                entry["stages"] += 1
        return sorted(found.values(), key=lambda entry: -entry["stages"])

    def overcome(self, campaigns: int) -> list[dict[str, Any]]:
        """The attempts that went wrong at stages that did not fail, a record for each sort.

        {"campaign", "stage": kind, "outcome", "error_kind", "device": queue of the card, "" for none,
        "attempts": how many, "stages": of how many stages, "error": of one of them, "job": one it concerns}
        """
        found: dict[tuple[str, ...], dict[str, Any]] = {}
        for campaign in self._newest(campaigns):
            for job, kind, name, stage in self._stages(campaign):
                if stage["state"] == "failed" or not _tried_again(stage):
                    continue
                touched = set()
                for entry in map(json.loads, self._redis.lrange(keys.attempts(name), 0, -1)):
                    outcome = entry.get("outcome")
                    if outcome is None or outcome in _WELL:
                        continue
                    sort = (campaign, kind, outcome, entry.get("error_kind") or "", entry.get("device") or "")
                    names = ("campaign", "stage", "outcome", "error_kind", "device")
                    record = found.setdefault(sort, _entry(names, sort, job) | {"attempts": 0, "error": ""})
                    record["attempts"] += 1
                    record["error"] = record["error"] or entry.get("error") or ""
                    touched.add(sort)
                for sort in touched:
                    found[sort]["stages"] += 1
        return sorted(found.values(), key=lambda entry: -entry["attempts"])

    def doubts(self, campaigns: int) -> list[tuple[str, Counter[str]]]:
        """Campaigns that have doubtful results, newest first, with how many results have each flag."""
        found = []
        for campaign in self._newest(campaigns):
            flags: Counter[str] = Counter()
            for result in self._queries.results(campaign):
                flags.update({flag.partition(":")[0] for flag in result["flags"]} - _NO_DOUBT)
            if flags:
                found.append((campaign, flags))
        return found

    def _newest(self, campaigns: int) -> list[str]:
        return list(self._redis.zrevrange(keys.CAMPAIGNS, 0, campaigns - 1))

    def _stages(self, campaign: str) -> Iterator[tuple[str, str, str, dict[str, str]]]:
        """Each stage once, those that were made again too: a job it is of, its kind, its name and record."""
        seen: set[str] = set()
        for job, record, stages in self._queries.walk(campaign):
            for kind, last in json.loads(record["stages"]).items():
                if last not in seen:
                    seen.add(last)
                    yield job, kind, last, stages[kind]
                    for name in repaired(last)[:-1]:
                        yield job, kind, name, self._redis.hgetall(keys.stage(name))


def _entry(names: tuple[str, ...], values: tuple[str, ...], job: str) -> dict[str, Any]:
    return {**dict(zip(names, values, strict=True)), "stages": 0, "job": job}


def _tried_again(stage: dict[str, str]) -> bool:
    """Whether an attempt at the stage may be over without having done it."""
    attempts = int(stage.get("attempt") or 0)
    return attempts > 1 or (attempts == 1 and stage["state"] in ("ready", "waiting"))
