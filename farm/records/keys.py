"""How keys are spelled, for the plain reads and writes beside the scripts. The schema: lua/prelude.lua."""

from __future__ import annotations

#: Written once per Redis; a farm refuses records of a newer schema.
SCHEMA = 2

META = "farm:meta"
CAMPAIGNS = "farm:campaigns"
CARDS = "farm:cards"
WORKERS = "farm:workers"
COORDINATORS = "farm:coordinators"
ARTIFACTS = "farm:artifacts"
LEASES = "farm:leases"
WAITS = "farm:waits"
LOSSES = "farm:losses"
CHANGED = "farm:changed"


def campaign(name: str) -> str:
    return f"farm:c:{name}"


def campaign_jobs(name: str) -> str:
    return f"farm:c:{name}:jobs"


def job(name: str) -> str:
    return f"farm:j:{name}"


def stage(name: str) -> str:
    return f"farm:s:{name}"


def attempts(stage_name: str) -> str:
    return f"farm:s:{stage_name}:attempts"


def ready(kind: str, campaign_name: str) -> str:
    return f"farm:ready:{kind}:{campaign_name}"


def artifact(key: str) -> str:
    return f"farm:a:{key}"


def artifact_stages(key: str) -> str:
    return f"farm:a:{key}:stages"


def card(queue: str) -> str:
    return f"farm:k:{queue}"


def running(queue: str) -> str:
    return f"farm:k:{queue}:running"


def node(name: str) -> str:
    return f"farm:n:{name}"


def worker(name: str) -> str:
    return f"farm:w:{name}"


def idle(queue: str) -> str:
    return f"farm:idle:{queue}"
