"""Records of an earlier schema, made into today's, while others may read them or do the same."""

from __future__ import annotations

import logging

from redis.exceptions import NoPermissionError

from farm.records import keys
from farm.records.scripts import Scripts

log = logging.getLogger(__name__)

#: Stages looked at in one script, so that none holds Redis for long.
BATCH = 500


def upgrade(scripts: Scripts) -> None:
    """Bring the records to schema 2: an artifact knows the stages that asked for it. May be repeated.

    Their bytes are told when they are next asked for. A reader may not write: it reads both schemas.
    """
    client = scripts.client
    stages: list[str] = []
    try:
        for name in client.scan_iter(f"{keys.stage('')}*", count=BATCH, _type="hash"):
            stages.append(name.removeprefix(keys.stage("")))
            if len(stages) == BATCH:
                scripts.run("upgrade", *stages)
                stages = []
        scripts.run("upgrade", *stages)
        client.hset(keys.META, "schema", keys.SCHEMA)
    except NoPermissionError:
        return
    log.info("records are of schema %d now", keys.SCHEMA, extra={"action": "upgrade"})
