"""Recording a campaign: its jobs and stages in batches under `staging`, then one flip to `open`.

A batch whose answer is lost is written again, so each says what is to be there, not what is to be added.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import Counter, defaultdict
from datetime import datetime, timezone
from itertools import chain, islice

from farm.domain.errors import Unreachable
from farm.domain.job import Job
from farm.domain.plan import Plan, Stage
from farm.domain.sizes import MIB
from farm.records import keys
from farm.records.connection import AWAY
from farm.records.scripts import Scripts

#: Records written per round trip, so that a large submission never blocks Redis for long.
BATCH = 500


def new_campaign_id() -> str:
    """A campaign's name: the minute of its submission (UTC) and four random characters."""
    stamp = datetime.now(timezone.utc).strftime("%Y%m%d-%H%M")
    return f"{stamp}-{secrets.token_hex(2)}"


def score(stage: Stage) -> float:
    """Order of claims within a campaign, highest first: runs longest first, CPU stages by model."""
    return stage.expected_s if stage.kind == "run" else -float(stage.model_rank)


def queues_of(job: Job) -> list[str]:
    """The queues of the cards a job may run on, [] for any card."""
    return [d if d.startswith("device.") else f"device.{d}" for d in job.devices or ()]


def submit(scripts: Scripts, plan: Plan, *, label: str | None, priority: int, command: list[str]) -> str:
    """Record the plan as a new campaign and open it. Returns the campaign's id."""
    redis = scripts.client
    campaign = new_campaign_id()
    feeds: dict[str, list[str]] = defaultdict(list)
    for stage in plan.stages:
        for need in stage.needs:
            feeds[need].append(stage.name)
    found = {stage.name for stage in plan.stages if stage.found is not None}
    blockers = {stage.name: sum(need not in found for need in stage.needs) for stage in plan.stages}

    def state_of(stage: Stage) -> str:
        return "done" if stage.name in found else "waiting" if blockers[stage.name] else "ready"

    owner = {planned.stages[kind]: n for n, planned in enumerate(plan.jobs) for kind in ("run", "compare")}
    wanted = [queues_of(planned.job) for planned in plan.jobs]
    somewhere = sorted({queue for queues in wanted for queue in queues}) if all(wanted) else []
    now = int(time.time() * 1000)
    counters = Counter(f"s:{s.kind}:{state_of(s)}" for s in plan.stages)
    counters["j:waiting"] = len(plan.jobs)
    redis.hset(
        keys.campaign(campaign),
        mapping={
            "label": label or "",
            "priority": priority,
            "created": now,
            "state": "staging",
            "devices": json.dumps(somewhere) if somewhere else "",
            "command": json.dumps(command),
            "expected": sum(s.expected_s for s in plan.stages if s.kind == "run"),
            "expected_done": 0,
            **counters,
        },
    )

    def stage_id(name: str) -> str:
        return f"{campaign}/{name}"

    stages = iter(plan.stages)
    while batch := list(islice(stages, BATCH)):
        pipe = redis.pipeline(transaction=False)
        for stage in batch:
            state = state_of(stage)
            config = stage.ask["job"]["config"] if stage.kind == "run" else None
            mapping: dict[str, str | int | float] = {
                "campaign": campaign,
                "kind": stage.kind,
                "ask": "{}" if stage.kind == "run" else json.dumps(stage.ask),
                "needs": json.dumps([stage_id(n) for n in stage.needs]),
                "feeds": json.dumps([stage_id(n) for n in feeds[stage.name]]),
                "blockers": blockers[stage.name],
                "state": state,
                "score": score(stage),
                "expected": stage.expected_s,
            }
            if stage.name in owner:
                mapping["job"] = f"{campaign}.{owner[stage.name] + 1}"
            if stage.found is not None:
                mapping |= {"outcome": json.dumps(stage.found), "artifact": stage.found["key"]}
            if any(stage.need):
                mapping["room"] = " ".join(str(-(-size // MIB)) for size in stage.need)
            if config is not None:
                mapping["cores"] = config["cores"] * config["instances"]
                mapping["devices"] = json.dumps(wanted[owner[stage.name]])
            pipe.hset(keys.stage(stage_id(stage.name)), mapping=mapping)
            if state == "ready":
                pipe.hset(keys.stage(stage_id(stage.name)), "ready", now)
                pipe.zadd(keys.ready(stage.kind, campaign), {stage_id(stage.name): score(stage)})
        pipe.execute()

    jobs = iter(enumerate(plan.jobs, start=1))
    while numbered := list(islice(jobs, BATCH)):
        pipe = redis.pipeline(transaction=False)
        for n, planned in numbered:
            name = f"{campaign}.{n}"
            pipe.hset(
                keys.job(name),
                mapping={
                    "campaign": campaign,
                    "spec": json.dumps(planned.job.to_json()),
                    "stages": json.dumps({k: stage_id(s) for k, s in planned.stages.items()}),
                    "state": "waiting",
                },
            )
        listed, before = keys.campaign_jobs(campaign), numbered[0][0] - 1
        if before:
            pipe.ltrim(listed, 0, before - 1)
        else:
            pipe.delete(listed)
        pipe.rpush(listed, *(f"{campaign}.{n}" for n, _ in numbered))
        pipe.execute()

    artifacts = [
        (stage_id(stage.name), stage.found["key"], stage.found["bytes"])
        for stage in plan.stages
        if stage.found is not None
    ]
    try:
        scripts.run("open", campaign, *chain.from_iterable(artifacts))
    except AWAY as error:
        raise Unreachable(
            f"Redis went away while campaign {campaign} was opened: {error};"
            " `farm campaigns` tells whether it is there, before you submit it again"
        ) from error
    return campaign
