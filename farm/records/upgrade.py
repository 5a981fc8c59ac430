"""Records of an earlier schema, made into today's."""

from __future__ import annotations

import logging
import time

from redis.exceptions import NoPermissionError

from farm.records import keys
from farm.records.connection import Client

log = logging.getLogger(__name__)

#: Records read per round trip.
BATCH = 1000


def upgrade(client: Client) -> None:
    """Bring the records to schema 2: an artifact knows the stages that asked for it. May be repeated.

    Their bytes are told when they are next asked for. A reader may not write: it reads both schemas.
    """
    try:
        _note_stages(client)
        client.hset(keys.META, "schema", keys.SCHEMA)
    except NoPermissionError:
        return
    log.info("records are of schema %d now", keys.SCHEMA, extra={"action": "upgrade"})


def _note_stages(client: Client) -> None:
    now = int(time.time() * 1000)
    stages: list[str] = []
    for name in client.scan_iter(f"{keys.stage('')}*", count=BATCH, _type="hash"):
        stages.append(name.removeprefix(keys.stage("")))
        if len(stages) == BATCH:
            _note(client, stages, now)
            stages = []
    _note(client, stages, now)


def _note(client: Client, stages: list[str], now: int) -> None:
    pipe = client.pipeline(transaction=False)
    for stage in stages:
        pipe.hget(keys.stage(stage), "artifact")
    found = [(stage, key) for stage, key in zip(stages, pipe.execute(), strict=True) if key]
    for _, key in found:
        pipe.hget(keys.artifact(key), "state")
    for (stage, key), state in zip(found, pipe.execute(), strict=True):
        if state:
            pipe.sadd(keys.artifact_stages(key), stage)
        if state == "present":
            pipe.zadd(keys.ARTIFACTS, {key: now}, nx=True)
    pipe.execute()
