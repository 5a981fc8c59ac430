"""Small campaigns, workers and checks that the tests of the records share."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

from farm.domain.job import STAGE_KINDS, CardConfiguration, Job, StageKind
from farm.domain.plan import Plan, plan
from farm.records import Records, keys
from farm.records.claims import Claim, Probe

CPU = ("export", "reference", "compile", "compare")
_nonce = itertools.count()


def job(
    model: str = "bert-base-cased",
    *,
    cores: int = 2,
    instances: int = 7,
    seconds: int = 20,
    devices: tuple[str, ...] | None = None,
    repeat: int = 0,
) -> Job:
    return Job(
        model,
        "fill-mask",
        "best-throughput",
        CardConfiguration(8, 128, cores, instances, 4),
        seconds=seconds,
        devices=devices,
        repeat=repeat,
    )


def submit(records: Records, *jobs: Job, priority: int = 0) -> str:
    return submit_plan(records, plan(jobs), priority)


def submit_plan(records: Records, planned: Plan, priority: int = 0) -> str:
    return records.submit(planned, label=None, priority=priority, command=["test"])


def cpu(records: Records, name: str = "cpu") -> str:
    records.fleet.register(name, CPU, node="host", pid=1)
    return name


def card(
    records: Records, qid: int = 0, *, worker: str | None = None, nsp: int = 14, good: bool = True
) -> str:
    queue = f"device.{qid}"
    name = worker or f"card-{qid}"
    records.fleet.register(name, [queue], node="host", pid=2, card=queue)
    records.fleet.report_card(queue, {"nsp_total": nsp, "pci_address": f"0000:0{qid}:00.0"})
    if good:
        records.fleet.set_health(queue, "good")
    return name


def claim(records: Records, worker: str, kind: StageKind, queue: str | None = None) -> Claim | None:
    found = records.claims.claim(worker, queue or kind, kind, f"n{next(_nonce)}")
    assert not isinstance(found, Probe)
    return found


def must_claim(records: Records, worker: str, kind: StageKind, queue: str | None = None) -> Claim:
    found = claim(records, worker, kind, queue)
    assert found is not None, f"nothing to claim for {worker} on {queue or kind}"
    return found


def do(records: Records, worker: str, kind: StageKind, queue: str | None = None) -> Claim:
    """Claim a stage and finish it."""
    found = must_claim(records, worker, kind, queue)
    if kind == "run":
        assert records.claims.running(found.stage, found.token)
    assert records.claims.done(found.stage, found.token, {"key": found.stage, "seconds": 1.0}) == "ok"
    return found


def until_run(records: Records, worker: str) -> None:
    """Export and compile everything, so that runs are ready."""
    kinds: tuple[StageKind, ...] = ("export", "compile")
    for kind in kinds:
        while found := claim(records, worker, kind):
            records.claims.done(found.stage, found.token, {"key": found.stage})


def advance(records: Records, seconds: float, *, beating: bool = True) -> None:
    """Move the farm clock on, as ticks over that time would, while the workers beat or are silent."""
    records.client.hincrby(keys.META, "clock", int(seconds * 1000))
    if beating:
        for worker in records.client.zrange(keys.WORKERS, 0, -1):
            records.fleet.beat(worker)


def check_counters(records: Records, campaigns: Sequence[str]) -> None:
    """The counters of each campaign equal what its records say, stage by stage and job by job."""
    for name in campaigns:
        counted: Counter[str] = Counter()
        for key in records.client.scan_iter(f"farm:s:{name}/*"):
            if not key.endswith(":attempts"):
                kind, state = records.client.hmget(key, "kind", "state")
                counted[f"s:{kind}:{state}"] += 1
        for job_id in records.client.lrange(keys.campaign_jobs(name), 0, -1):
            counted[f"j:{records.client.hget(keys.job(job_id), 'state')}"] += 1
        written = records.client.hgetall(keys.campaign(name))
        kept = {k: int(v) for k, v in written.items() if k[:2] in ("s:", "j:") and int(v)}
        assert kept == dict(counted)
        assert sum(v for k, v in counted.items() if k.split(":")[1] in STAGE_KINDS) > 0
