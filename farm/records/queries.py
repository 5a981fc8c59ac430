"""What the records say: campaigns, status, jobs, histories, results. Reads only."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from farm.domain.errors import BadInput
from farm.domain.job import STAGE_KINDS, Job
from farm.domain.names import show
from farm.domain.peers import slow_cards
from farm.domain.result import compose, iso
from farm.domain.states import FINAL, campaign_state
from farm.records import keys
from farm.records.connection import Client

#: Jobs read per round trip.
BATCH = 1000

#: How campaigns and jobs are called; anything else is no name of theirs, whatever keys it would make.
_NAME = re.compile(r"[0-9A-Za-z.-]{1,64}")

JOB_STATES = ("waiting", "running", "done", "failed", "cancelled")


class Queries:
    """Answers about campaigns and jobs; every figure is read from the records, none is remembered."""

    def __init__(self, client: Client) -> None:
        self._redis = client

    def latest(self) -> str | None:
        """The newest campaign, None where there is none."""
        newest = self._redis.zrevrange(keys.CAMPAIGNS, 0, 0)
        return newest[0] if newest else None

    def find(self, name: str | None) -> str:
        """The campaign of that id or unique prefix; no name means the latest. Raises BadInput."""
        if name is None:
            latest = self.latest()
            if latest is None:
                raise BadInput("no campaign has been submitted yet; `farm submit -m MODEL` makes one")
            return latest
        if not _NAME.fullmatch(name):
            raise BadInput(f"{show(name)} is not a campaign; `farm campaigns` lists them")
        if self._redis.zscore(keys.CAMPAIGNS, name) is not None:
            return name
        hits: list[str] = [c for c in self._redis.zrange(keys.CAMPAIGNS, 0, -1) if c.startswith(name)]
        if len(hits) != 1:
            what = f"matches {len(hits)} campaigns" if hits else "is not a campaign"
            raise BadInput(f"{show(name)} {what}; `farm campaigns` lists them")
        return hits[0]

    def job_ids(self, names: Iterable[str]) -> list[str]:
        """The jobs meant by campaign or job ids. Raises BadInput for an unknown one."""
        found: list[str] = []
        for name in names:
            if _NAME.fullmatch(name) and self._redis.exists(keys.job(name)):
                found.append(name)
            elif "." in name:
                raise BadInput(f"{show(name)} is not a job; `farm jobs` lists them")
            else:
                found.extend(self._redis.lrange(keys.campaign_jobs(self.find(name)), 0, -1))
        return found

    def campaigns(self) -> list[dict[str, Any]]:
        """One record a campaign, oldest first."""
        names = self._redis.zrange(keys.CAMPAIGNS, 0, -1)
        return [
            self._campaign(n, r) for n, r in zip(names, self._hashes(map(keys.campaign, names)), strict=True)
        ]

    def _campaign(self, name: str, record: Mapping[str, str]) -> dict[str, Any]:
        jobs = _job_counts(record)
        return {
            "campaign": name,
            "label": record.get("label") or None,
            "priority": int(record.get("priority") or 0),
            "state": campaign_state(jobs),
            "created": iso(record.get("created")),
            "jobs": jobs,
        }

    def status(self, name: str | None = None) -> dict[str, Any]:
        """Counts by stage and state and by job state; `cards` and `eta_s` are the caller's to add.

        expected_left_s: of the runs to come, added up. pace_s: from one job's end to the next, None where
        less than two have ended. cpu_left: exports, references and compiles that are not at their end.
        devices: the cards it may use, none: any.
        """
        campaign = self.find(name)
        record = self._redis.hgetall(keys.campaign(campaign))
        jobs = _job_counts(record)
        stages = {
            kind: {
                "running" if state == "claimed" else state: int(record.get(f"s:{kind}:{state}") or 0)
                for state in ("waiting", "ready", "claimed", "done", "failed", "blocked", "cancelled")
            }
            for kind in STAGE_KINDS
        }
        return {
            "campaign": campaign,
            "state": campaign_state(jobs),
            "jobs": jobs,
            "stages": stages,
            "devices": [queue.removeprefix("device.") for queue in json.loads(record.get("devices") or "[]")],
            "expected_left_s": max(
                0.0, float(record.get("expected") or 0) - float(record.get("expected_done") or 0)
            ),
            "pace_s": float(record["pace"]) / 1000 if "pace" in record else None,
            "cpu_left": sum(
                stages[kind][state]
                for kind in ("export", "reference", "compile")
                for state in ("waiting", "ready", "running")
            ),
        }

    def jobs(self, name: str | None = None) -> list[dict[str, Any]]:
        """The jobs of a campaign in order, a short record each."""
        found = []
        for job_id, record, stages in self.walk(self.find(name)):
            spec = json.loads(record["spec"])
            run = stages["run"]
            kind, error = _blame(stages)
            found.append(
                {
                    "job": job_id,
                    "model": spec["model"],
                    "task": spec["task"],
                    "objective": spec["objective"],
                    "state": record["state"],
                    "attempts": int(run.get("attempt") or 0),
                    "error_kind": kind,
                    "error": error,
                }
            )
        return found

    def job(self, job_id: str) -> dict[str, Any]:
        """One job whole: its spec, the state of each stage, and its history attempt by attempt."""
        record = self._redis.hgetall(keys.job(job_id)) if _NAME.fullmatch(job_id) else None
        if not record:
            raise BadInput(f"{show(job_id)} is not a job; `farm jobs` lists them")
        ids = json.loads(record["stages"])
        stages = dict(zip(ids, self._hashes(map(keys.stage, ids.values())), strict=True))
        history = []
        for kind, stage in ((kind, each) for kind, last in ids.items() for each in repaired(last)):
            for raw in self._redis.lrange(keys.attempts(stage), 0, -1):
                entry = json.loads(raw)
                history.append({"stage": kind, **self._attempt(kind, stage, entry)})
        history.sort(key=lambda e: str(e["started"]))
        kind, error = _blame(stages)
        return {
            "job": job_id,
            "campaign": record["campaign"],
            "state": record["state"],
            "spec": json.loads(record["spec"]),
            "attempts": int(stages["run"].get("attempt") or 0),
            "error_kind": kind,
            "error": error,
            "stages": {
                k: {
                    "id": ids[k],
                    "state": s["state"],
                    "attempts": int(s.get("attempt") or 0),
                    "error": s.get("error") or None,
                    "log": s.get("log")
                    or (json.loads(s["outcome"]).get("log") if s.get("outcome") else None),
                }
                for k, s in stages.items()
            },
            "history": history,
            "archived": len(json.loads(record.get("archive") or "[]")),
        }

    def _attempt(self, kind: str, stage: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        """An attempt of a stage; None where there is nothing (yet). log: its path on the node it ran on."""
        entry = {name: value for name, value in entry.items() if name != "token"}
        log = entry.get("log")
        if log is None and (pattern := self._redis.hget(keys.node(entry["node"]), f"log:{kind}")):
            log = pattern.replace("{stage}", stage).replace("{attempt}", str(entry["attempt"]))
        return {
            **dict.fromkeys(("device", "outcome", "error_kind", "error")),
            **entry,
            "started": iso(entry.get("started")),
            "ended": iso(entry.get("ended")),
            "log": log,
        }

    def results(self, name: str | None = None) -> list[dict[str, Any]]:
        """One result record a job, in the campaign's order; what is not measured yet is None.

        `slow_card` is among the flags of those of a card that is slower than its peers (farm.domain.peers).
        """
        campaign = self.find(name)
        found = [_result(campaign, *entry) for entry in self.walk(campaign)]
        for slow in slow_cards(found):
            for place in slow.records:
                found[place]["flags"].append("slow_card")
        return found

    def outcomes(self, name: str | None = None) -> list[dict[str, Any]]:
        """What the stages of each job told, in the campaign's order.

        {"job", "stages": {kind: {"state", "error", "outcome"}}}; outcome is as farm.worker.perform gives it,
        {} where there is none yet.
        """
        return [
            {
                "job": job_id,
                "stages": {
                    kind: {
                        "state": s["state"],
                        "error": s.get("error") or None,
                        "outcome": json.loads(s.get("outcome") or "{}"),
                    }
                    for kind, s in stages.items()
                },
            }
            for job_id, _, stages in self.walk(self.find(name))
        ]

    def ended(self, stages: Iterable[str]) -> set[str]:
        """Those of the stages that are final, with all that depends on them; unknown ones are left out."""
        names = list(stages)
        known = dict(zip(names, self._hashes(map(keys.stage, names)), strict=True))
        feeds = {name: json.loads(s["feeds"]) for name, s in known.items() if s.get("state") in FINAL}
        after = list(dict.fromkeys(next_ for following in feeds.values() for next_ in following))
        states = {n: s.get("state") for n, s in zip(after, self._hashes(map(keys.stage, after)), strict=True)}
        return {name for name, following in feeds.items() if all(states[n] in FINAL for n in following)}

    def walk(self, campaign: str) -> Iterable[tuple[str, dict[str, str], dict[str, dict[str, str]]]]:
        """Each job of the campaign in order: its id, its record, and by kind the records of its stages."""
        ids = self._redis.lrange(keys.campaign_jobs(campaign), 0, -1)
        for start in range(0, len(ids), BATCH):
            part = ids[start : start + BATCH]
            records = self._hashes(map(keys.job, part))
            wanted = [json.loads(r["stages"]) for r in records]
            names = list(dict.fromkeys(s for stages in wanted for s in stages.values()))
            known = dict(zip(names, self._hashes(map(keys.stage, names)), strict=True))
            for job_id, record, stages in zip(part, records, wanted, strict=True):
                yield job_id, record, {kind: known[s] for kind, s in stages.items()}

    def _hashes(self, names: Iterable[str]) -> list[dict[str, str]]:
        pipe = self._redis.pipeline(transaction=False)
        for name in names:
            pipe.hgetall(name)
        return list(pipe.execute())


def repaired(stage: str) -> list[str]:
    """A stage and those it was made for again: of `export-x~2` export-x, export-x~1 and export-x~2."""
    origin, _, number = stage.partition("~")
    return [origin, *(f"{origin}~{n}" for n in range(1, int(number or 0) + 1))]


def _job_counts(record: Mapping[str, str]) -> dict[str, int]:
    counts = {state: int(record.get(f"j:{state}") or 0) for state in JOB_STATES}
    return {"total": sum(counts.values()), **counts}


def _blame(stages: Mapping[str, Mapping[str, str]]) -> tuple[str | None, str | None]:
    """Why a job failed: the first stage on its way that failed, else the last thing its run met."""
    for kind in ("export", "compile", "run"):
        stage = stages[kind]
        if stage["state"] == "failed":
            return stage.get("error_kind") or None, f"{kind}: {stage.get('error') or 'failed'}"
    run = stages["run"]
    if run["state"] != "done" and run.get("error"):
        return run.get("error_kind") or None, run["error"]
    return None, None


def _result(
    campaign: str, job_id: str, record: Mapping[str, str], stages: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    outcomes = {kind: json.loads(s["outcome"]) for kind, s in stages.items() if s.get("outcome")}
    kind, error = _blame(stages)
    # A result keeps its flag when its reference is made again for another job: its compare is blocked still.
    uncompared = stages["run"]["state"] == "done" and stages["compare"]["state"] == "blocked"
    side = [kind for kind in ("reference", "compare") if stages[kind]["state"] == "failed"]
    if uncompared and not side:
        side = ["reference"]
    return compose(
        Job.from_json(json.loads(record["spec"])),
        outcomes,
        job_id=job_id,
        campaign=campaign,
        state=record["state"],
        attempts=int(stages["run"].get("attempt") or 0),
        error_kind=kind,
        error=error,
        finished=iso(record.get("finished")),
        failed_stages=tuple(side),
    )
