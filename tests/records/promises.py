"""What the records promise at every moment, checked against all of them at once."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from farm.domain.states import FINAL
from farm.records.connection import Client

#: All of the farm's keys and what they hold, in one answer.
_DUMP = """
local found = {}
for _, at in ipairs(redis.call('KEYS', 'farm:*')) do
  local kind, held = redis.call('TYPE', at).ok, nil
  if kind == 'hash' then held = redis.call('HGETALL', at)
  elseif kind == 'set' then held = redis.call('SMEMBERS', at)
  elseif kind == 'zset' then held = redis.call('ZRANGE', at, 0, -1, 'WITHSCORES')
  elseif kind == 'list' then held = redis.call('LRANGE', at, 0, -1)
  else held = redis.call('GET', at) end
  found[#found + 1] = {at, kind, held}
end
return cjson.encode(found)
"""


class Snapshot:
    """All records at one moment. hashes are dicts, sets are sets, sorted sets are dicts of scores."""

    def __init__(self, client: Client) -> None:
        self.all: dict[str, Any] = {}
        for key, kind, held in json.loads(client.eval(_DUMP, 0)):
            if kind in ("hash", "zset"):
                held = dict(zip(held[::2], held[1::2], strict=True))
            self.all[key] = set(held) if kind == "set" else held
        self.stages = self._of("s")
        self.jobs = self._of("j")
        self.campaigns = self._of("c")
        self.workers = self._of("w")
        self.cards = self._of("k")
        self.artifacts = self._of("a")

    def _of(self, letter: str) -> dict[str, dict[str, str]]:
        head = f"farm:{letter}:"
        return {
            key[len(head) :]: held
            for key, held in self.all.items()
            if key.startswith(head) and key.count(":") == 2
        }

    def but_notes(self) -> dict[str, Any]:
        """Everything, but for what attempts reported after they were cancelled."""
        found = dict(self.all)
        for key, held in found.items():
            if key.endswith(":attempts"):
                entries = [json.loads(raw) for raw in held]
                found[key] = [{name: entry[name] for name in entry if name != "late"} for entry in entries]
        return found

    def get(self, key: str) -> Any:
        """What a key holds; an empty dict where it does not exist."""
        return self.all.get(f"farm:{key}", {})

    def state(self, stage: str) -> str:
        return self.stages[stage]["state"]

    def needs(self, stage: str) -> list[str]:
        return list(json.loads(self.stages[stage]["needs"]))

    def feeds(self, stage: str) -> list[str]:
        return list(json.loads(self.stages[stage]["feeds"]))

    def in_state(self, *states: str) -> set[str]:
        return {name for name, s in self.stages.items() if s["state"] in states}

    def unfinished(self, stage: str) -> bool:
        """Whether the stage, or one that depends on it, is not at its end."""
        return self.state(stage) not in FINAL or any(map(self.unfinished, self.feeds(stage)))

    def needed(self, artifact: str) -> bool:
        """Whether a claimed stage uses the artifact, or what a finished one made of it is yet to be read."""
        return any(
            s.get("artifact") == artifact
            and (s["state"] == "claimed" or (s["state"] == "done" and self.unfinished(name)))
            for name, s in self.stages.items()
        )

    def upstream(self, stages: Iterable[str]) -> set[str]:
        """The stages and all they need, through every hand."""
        found: set[str] = set()
        open_ = list(stages)
        while open_:
            stage = open_.pop()
            if stage not in found:
                found.add(stage)
                open_ += self.needs(stage)
        return found


def check(now: Snapshot) -> None:
    """Everything that holds at each moment, whatever came before."""
    _counters(now)
    _graph(now)
    _claims(now)
    _queues(now)
    _workers(now)
    _artifacts(now)
    _jobs(now)


def _counters(now: Snapshot) -> None:
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    done: Counter[str] = Counter()
    for stage in now.stages.values():
        counted[stage["campaign"]][f"s:{stage['kind']}:{stage['state']}"] += 1
        if stage["kind"] == "run" and stage["state"] in FINAL:
            done[stage["campaign"]] += float(stage["expected"])  # type: ignore[assignment]
    for job in now.jobs.values():
        counted[job["campaign"]][f"j:{job['state']}"] += 1
    for name, record in now.campaigns.items():
        kept = {field: int(n) for field, n in record.items() if field[:2] in ("s:", "j:") and int(n)}
        assert kept == dict(counted[name])
        assert abs(float(record["expected_done"]) - done[name]) < 1e-6
    stored = sum(int(a.get("bytes", 0)) for name, a in now.artifacts.items() if name in now.get("artifacts"))
    assert int(now.get("meta").get("stored", 0)) == stored
    assert "drift" not in now.get("meta"), "a recount found something to repair"
    assert all(int(n) >= 0 for n in now.get("bells").values())


def _graph(now: Snapshot) -> None:
    for name, stage in now.stages.items():
        if stage["state"] in FINAL:
            continue
        needs = now.needs(name)
        missing = [need for need in needs if now.state(need) != "done"]
        assert all(name in now.feeds(need) for need in needs), f"{name} is not fed by what it needs"
        if stage["state"] != "waiting":
            assert not missing, f"{name} is {stage['state']} before {missing}"
            continue
        assert int(stage["blockers"]) == len(missing), f"{name}: {stage['blockers']} blockers, {missing}"
        assert not any(now.state(need) in FINAL for need in missing), f"{name} waits for ever for {missing}"
        if not missing:
            builds = [a for a in now.artifacts if name in now.get(f"a:{a}:waiters")]
            assert any(now.artifacts[a]["state"] == "building" for a in builds), (
                f"{name} is parked for nothing"
            )


def _claims(now: Snapshot) -> None:
    claimed = now.in_state("claimed")
    assert set(now.get("leases")) == claimed
    assert set(now.get("admitted")) == {name for name in claimed if "room" in now.stages[name]}
    runs = {name for name in claimed if now.stages[name]["kind"] == "run"}
    assert set(now.get("prepared")) == {name for name in runs if now.stages[name]["phase"] == "prepare"}
    for queue in now.cards:
        here = {name for name in runs if now.stages[name]["queue"] == queue}
        assert set(now.get(f"k:{queue}:claims")) == here
        running = {name for name in here if now.stages[name]["phase"] == "run"}
        assert set(now.get(f"k:{queue}:running")) == running
        held = sum(int(now.stages[name]["cores"]) for name in running)
        assert held <= int(now.cards[queue]["nsp_total"]), f"{held} cores of {queue} are held"
        assert (now.cards[queue].get("stage") in running) or not now.cards[queue].get("stage")
    for name in now.stages:
        attempts = [json.loads(raw) for raw in now.get(f"s:{name}:attempts") or ()]
        assert [a["attempt"] for a in attempts] == list(range(1, int(now.stages[name].get("attempt", 0)) + 1))
        still = [a["attempt"] for a in attempts if "outcome" not in a]
        assert still in ([], [len(attempts)] if name in claimed else []), f"{name}: {still} of {attempts}"


def _queues(now: Snapshot) -> None:
    later = set(now.get("later"))
    ready: dict[tuple[str, str], set[str]] = defaultdict(set)
    for name in now.in_state("ready") - later:
        ready[now.stages[name]["kind"], now.stages[name]["campaign"]].add(name)
    assert later <= now.in_state("ready")
    for kind in ("export", "reference", "compile", "run", "compare"):
        assert set(now.get(f"ready:{kind}")) == {c for k, c in ready if k == kind}
        for campaign in now.campaigns:
            assert set(now.get(f"ready:{kind}:{campaign}")) == ready.get((kind, campaign), set())


def _workers(now: Snapshot) -> None:
    assert set(now.get("workers")) == set(now.workers)
    idle = {
        key.removeprefix("farm:idle:"): held for key, held in now.all.items() if key.startswith("farm:idle:")
    }
    for worker, record in now.workers.items():
        queues = set(json.loads(record["queues"]))
        assert {q for q, those in idle.items() if worker in those} == (
            queues if record["state"] == "idle" else set()
        )
        mine = {s for s in now.in_state("claimed") if now.stages[s]["worker"] == worker}
        assert mine == ({record["stage"]} if "stage" in record else set()), f"{worker} {record}, has {mine}"
        assert record["state"] == "stopping" or (record["state"] == "busy") == bool(mine)
    assert set().union(*idle.values()) <= set(now.workers)


def _artifacts(now: Snapshot) -> None:
    assert set(now.get("artifacts")) == {a for a, r in now.artifacts.items() if r["state"] != "building"}
    for artifact, record in now.artifacts.items():
        waiters = set(now.get(f"a:{artifact}:waiters")) & now.in_state("waiting")
        if record["state"] == "building":
            builder = now.stages[record["stage"]]
            assert (builder["state"], builder["token"]) == ("claimed", record["token"]), (
                f"nobody builds {artifact}"
            )
            assert builder["artifact"] == artifact
        else:
            assert not waiters, f"{waiters} wait for {artifact}, which is {record['state']}"


def _jobs(now: Snapshot) -> None:
    for name, job in now.jobs.items():
        stages = json.loads(job["stages"])
        run, compare = now.state(stages["run"]), now.state(stages["compare"])
        if job["state"] == "done":
            assert run == "done"
            assert compare in FINAL
        assert (job["state"] in ("done", "failed", "cancelled")) == (
            run in FINAL and (run != "done" or compare in FINAL)
        ), f"{name} is {job['state']}: run {run}, compare {compare}"
        assert ("finished" in job) == (job["state"] in ("done", "failed", "cancelled"))


class History:
    """What must not change from one moment to the next, but where a retry allows it."""

    def __init__(self) -> None:
        self.ends: dict[str, tuple[str, str | None]] = {}
        self.results: dict[str, Any] = {}
        self.closed: dict[tuple[str, int], dict[str, Any]] = {}
        self.notes: dict[tuple[str, int], str] = {}
        self.attempts: dict[str, int] = {}

    def retried(self, job: str, now: Snapshot) -> None:
        """The job, and what it needs that is not done, starts over."""
        stages = json.loads(now.jobs[job]["stages"])
        for stage in now.upstream([stages["run"], stages["compare"]]):
            self.ends.pop(stage, None)
        self.results.pop(job, None)

    def check(self, now: Snapshot) -> None:
        """Ends are ends, results stay, numbers rise, closed entries of a history are not rewritten.

        A cancelled attempt that reports all the same leaves a note, once.
        """
        for name, stage in now.stages.items():
            before = self.ends.get(name)
            if before is not None:
                assert (stage["state"], stage.get("outcome")) == before, f"{name} was {before}"
            elif stage["state"] in FINAL:
                self.ends[name] = (stage["state"], stage.get("outcome"))
            number = int(stage.get("attempt", 0))
            assert number >= self.attempts.get(name, 0)
            self.attempts[name] = number
            for n, raw in enumerate(now.get(f"s:{name}:attempts") or ()):
                entry = json.loads(raw)
                if "outcome" in entry:
                    late = entry.pop("late", None)
                    assert self.closed.setdefault((name, n), entry) == entry
                    assert late is None or self.notes.setdefault((name, n), late) == late
        for name, job in now.jobs.items():
            if job["state"] in ("done", "failed", "cancelled"):
                result = _result(now, job)
                assert self.results.setdefault(name, result) == result, f"{name} has another result"


def _result(now: Snapshot, job: Mapping[str, str]) -> Any:
    """What a finished job's result is made of. What did not end well may start over with another job."""
    stages = json.loads(job["stages"])
    ends = {kind: (now.state(stage), now.stages[stage].get("outcome")) for kind, stage in stages.items()}
    if job["state"] != "done":
        return job["state"], ends["run"], ends["compare"]
    shown = stages.keys() - ({"reference"} if ends["compare"][0] == "blocked" else ())
    return job["state"], job["finished"], {kind: ends[kind] for kind in shown}
