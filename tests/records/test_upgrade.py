"""Records as schema 1 wrote them go on under today's; those of a schema to come are refused."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from farm.domain.errors import BadInput
from farm.domain.job import StageKind
from farm.records import Records, keys
from farm.records.connection import Client
from tests.records import scene
from tests.redis_server import RedisProcess

#: Written by the last version of schema 1: a campaign that is done, and one of three jobs of which two models
#: are exported and one compile is being built.
SCHEMA_1 = json.loads((Path(__file__).parent / "schema1.json").read_text())
#: Stages and artifacts beside them, so that an upgrade takes long enough to be met by another, or by a kill.
MANY = 8000


@pytest.fixture
def old(records: Records) -> Client:
    """A Redis with the records of schema 1."""
    redis = records.client
    redis.flushall()
    for name, kind, value in SCHEMA_1["keys"]:
        match kind:
            case "hash":
                redis.hset(name, mapping=value)
            case "zset":
                redis.zadd(name, dict(value))
            case "set":
                redis.sadd(name, *value)
            case "list":
                redis.rpush(name, *value)
            case _:
                redis.set(name, value)
    return redis


def test_an_old_campaign_is_finished_under_the_new_schema(old: Client) -> None:
    records = Records(old)
    assert old.hget(keys.META, "schema") == "2"
    done, half = SCHEMA_1["done"], SCHEMA_1["half"]
    assert [result["state"] for result in records.results(done)] == ["done"]
    scene.check_counters(records, [done, half])
    found = {row["key"]: (row["state"], row["needed"]) for row in records.artifacts.overview()}
    assert found == {
        "compile-albert": ("present", False),
        "export-albert": ("present", False),
        "reference-albert": ("present", False),
        "export-bert": ("present", True),
        "export-t5": ("present", True),
    }
    assert (
        records.claims.done(SCHEMA_1["building"], SCHEMA_1["token"], {"key": "compile-shared", "bytes": 3})
        == "ok"
    )
    assert records.artifacts.stored() == 3
    worker, card = scene.cpu(records), scene.card(records)
    scene.until_run(records, worker)
    last: list[tuple[StageKind, str]] = [("run", card), ("reference", worker), ("compare", worker)]
    for kind, who in last:
        while claim := scene.claim(records, who, kind, "device.0" if kind == "run" else None):
            records.claims.done(claim.stage, claim.token, {"key": claim.stage})
    assert records.status(half)["jobs"]["done"] == 3
    scene.check_counters(records, [done, half])


def test_upgrades_that_meet_or_are_killed_leave_what_one_alone_does(
    old: Client, redis_process: RedisProcess
) -> None:
    Records(old)
    alone = snapshot(old)
    pipe = old.pipeline(transaction=False)
    for n in range(MANY):
        pipe.hset(f"farm:s:many/{n}", mapping={"state": "done", "feeds": "[]", "artifact": f"x-{n}"})
        pipe.hset(f"farm:a:x-{n}", mapping={"state": "present"})
    pipe.execute()
    kill_one_at_work(old, redis_process.url)
    both = [opening(redis_process.url) for _ in range(2)]
    said = [each.communicate(timeout=30)[1] for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    assert old.hget(keys.META, "schema") == "2"
    assert old.zcard(keys.ARTIFACTS) == MANY + 5
    assert all(old.smembers(f"farm:a:x-{n}:stages") == {f"many/{n}"} for n in range(0, MANY, 97))
    for n in range(MANY):
        pipe.delete(f"farm:s:many/{n}", f"farm:a:x-{n}", f"farm:a:x-{n}:stages")
        pipe.zrem(keys.ARTIFACTS, f"x-{n}")
    pipe.execute()
    assert snapshot(old) == alone


def kill_one_at_work(redis: Client, url: str) -> None:
    """Kill -9 of an upgrade that has written and has not ended."""
    for _ in range(20):
        redis.delete(keys.ARTIFACTS, *redis.scan_iter("farm:a:*:stages", count=5000))
        redis.hset(keys.META, "schema", 1)
        killed = opening(url)
        until(lambda: redis.zcard(keys.ARTIFACTS))
        killed.kill()
        killed.communicate()
        if redis.hget(keys.META, "schema") == "1":
            return
    raise AssertionError("each upgrade was faster than its kill")


def opening(url: str) -> subprocess.Popen[str]:
    code = "import sys; from farm.records import open_records; open_records(sys.argv[1])"
    return subprocess.Popen(
        [sys.executable, "-c", code, url], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def until(there: Any) -> None:
    deadline = time.monotonic() + 20
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.0005)


def snapshot(redis: Client) -> dict[str, Any]:
    """All there is, but for when artifacts were last asked for."""
    found: dict[str, Any] = {}
    for name in redis.scan_iter("farm:*"):
        read = {
            "hash": redis.hgetall,
            "set": redis.smembers,
            "list": lambda name: redis.lrange(name, 0, -1),
            "zset": lambda name: redis.zrange(name, 0, -1),
            "string": redis.get,
        }[redis.type(name)]
        found[name] = set(read(name)) if name == keys.ARTIFACTS else read(name)
    return found


def test_records_of_a_schema_to_come_are_left_alone(records: Records) -> None:
    records.client.hset(keys.META, "schema", keys.SCHEMA + 1)
    before = snapshot(records.client)
    told = rf"schema {keys.SCHEMA + 1}, this aic-farm knows {keys.SCHEMA}: upgrade aic-farm"
    with pytest.raises(BadInput, match=told):
        Records(records.client)
    assert snapshot(records.client) == before
