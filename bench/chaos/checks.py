"""What must hold when a chaos campaign has ended. Each check answers the faults it found, in words."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from farm.artifacts import Store
from farm.artifacts.store import Corrupt
from farm.domain.job import STAGE_KINDS
from farm.emulator.runtime.locks import LockFile
from farm.records import Records, keys
from farm.sdk.lock import held_cards, lock_folder

#: Ends of attempts that executed nothing: it waited for another's build, or an idle card took it over.
UNSPENT = ("parked", "taken over")


class Stages:
    """Every stage of a campaign, its record and its attempts, read one by one."""

    def __init__(self, records: Records, campaign: str) -> None:
        client = records.client
        jobs = client.lrange(keys.campaign_jobs(campaign), 0, -1)
        self.jobs: dict[str, dict[str, str]] = {job: client.hgetall(keys.job(job)) for job in jobs}
        names = {name for job in self.jobs.values() for name in json.loads(job["stages"]).values()}
        self.stages: dict[str, dict[str, str]] = {name: client.hgetall(keys.stage(name)) for name in names}
        self.attempts: dict[str, list[dict[str, Any]]] = {
            name: [json.loads(raw) for raw in client.lrange(keys.attempts(name), 0, -1)] for name in names
        }

    def extra(self) -> int:
        """Executions beyond the one each stage needs."""
        spent = [sum(a.get("outcome") not in UNSPENT for a in tries) for tries in self.attempts.values()]
        return sum(n - 1 for n in spent if n)

    def ends(self) -> Counter[str]:
        """How the attempts ended, and how many so."""
        return Counter(str(a.get("outcome")) for tries in self.attempts.values() for a in tries)


def jobs_ended(records: Records, campaign: str, expected: int) -> Iterator[str]:
    """Every job is done with one result, or failed for a stated reason."""
    jobs, results = records.jobs(campaign), records.results(campaign)
    if len(jobs) != expected or len({job["job"] for job in jobs}) != expected:
        yield f"{len(jobs)} jobs, not {expected}"
    if [r["job"] for r in results] != [j["job"] for j in jobs]:
        yield f"{len(results)} results for {len(jobs)} jobs, or in another order"
    for job in jobs:
        if job["state"] == "failed" and not (job["error_kind"] and job["error"]):
            yield f"{job['job']} failed without a reason: {job}"
        if job["state"] not in ("done", "failed"):
            yield f"{job['job']} is {job['state']}"
    for result in results:
        if result["state"] == "done" and not (result["throughput_inf_s"] and result["cosine_min"]):
            yield f"{result['job']} is done without its figures: flags {result['flags']}"


def attempts(stages: Stages) -> Iterator[str]:
    """Attempts rise from 1, each is closed, and exactly one of a done stage is the one that did it."""
    for name, tries in stages.attempts.items():
        state = stages.stages[name]["state"]
        if [a["attempt"] for a in tries] != list(range(1, len(tries) + 1)):
            yield f"{name}: attempts {[a['attempt'] for a in tries]}"
        if [a for a in tries if "outcome" not in a]:
            yield f"{name} is {state}, and an attempt is open"
        done = sum(a.get("outcome") == "done" for a in tries)
        if done != (state == "done"):
            yield f"{name} is {state}, and {done} attempts are done"


def counters(records: Records, campaign: str, stages: Stages) -> Iterator[str]:
    """What the records count is what they hold; nothing is claimed, queued or being built."""
    client = records.client
    kept = client.hgetall(keys.campaign(campaign))
    held = Counter(f"s:{s['kind']}:{s['state']}" for s in stages.stages.values())
    held += Counter(f"j:{job['state']}" for job in stages.jobs.values())
    counted = {name: int(n) for name, n in kept.items() if name.startswith(("s:", "j:")) and int(n)}
    if counted != dict(held):
        yield f"counters {counted}, records {dict(held)}"
    for kind in STAGE_KINDS:
        if client.zcard(keys.ready(kind, campaign)):
            yield f"{kind} stages are queued"
    for name in ("farm:leases", "farm:prepared", "farm:later"):
        if client.zcard(name):
            yield f"{name} holds {client.zrange(name, 0, 4)}"
    done = Counter(s["queue"] for s in stages.stages.values() if s["kind"] == "run" and s["state"] == "done")
    for queue in client.smembers(keys.CARDS):
        said = int(client.hget(keys.card(queue), "done") or 0)
        if said != done[queue]:
            yield f"{queue} counts {said} runs, its stages {done[queue]}"
        if client.scard(keys.running(queue)) or client.scard(f"{keys.card(queue)}:claims"):
            yield f"{queue} is claimed"
    for name in client.scan_iter("farm:a:*", count=1000):
        if name.endswith(":stages"):
            continue
        if name.endswith(":waiters") or client.hget(name, "state") != "present":
            yield f"{name} is not at rest"


def artifacts(folder: Path) -> Iterator[str]:
    """Every artifact is whole, by its digests."""
    store = Store(folder)
    for entry in sorted((folder / "objects").iterdir()):
        try:
            if store.open(entry.name) is None:
                yield f"{entry.name} is not an artifact"
        except Corrupt as error:
            yield str(error)


def leftovers(home: Path) -> Iterator[str]:
    """Nothing half-written, and no outcome that the records do not have."""
    for path in sorted((home / "store" / "building").iterdir()):
        yield f"left in the store: building/{path.name}"
    for path in sorted((home / "outbox").iterdir()):
        yield f"left in the outbox: {path.name}"
    for path in sorted(home.rglob("*")):
        aside = path.parent.is_relative_to(home / "models") and path.name.startswith(".")
        if aside or path.suffix in (".tmp", ".new", ".part"):
            yield f"temporary file: {path.relative_to(home)}"


def locks(root: Path, cards: int) -> Iterator[str]:
    """No card is locked, neither by the farm nor by the emulated driver."""
    for held in held_cards(lock_folder(root)):
        yield f"card {held.pci_address} is locked by {held.pids}"
    for slot in range(cards):
        path = root / "state" / f"card-{slot}.lock"
        if path.exists():
            with LockFile(path) as lock:
                if ranges := lock.locked_ranges(0, 10_000_001):
                    yield f"the emulated card {slot} holds {ranges}"
