"""Which records a Redis holds: how they begin, how that is read, and how others are adopted."""

from __future__ import annotations

from pathlib import Path

from farm.domain.errors import RecordsLost
from farm.records import keys
from farm.records.connection import Client, address_of, connect
from farm.records.memory import FIELDS, Memory, Seen


def adopt(url: str, home: Path) -> str:
    """Go on with the records that are at `url` now, whatever was seen there before; one line on it.

    Empty and older records become the next epoch of the farm that was seen, which its other hosts follow.
    Another farm's are left as they are: this host follows them, each other host is to be told.
    """
    memory = Memory(address_of(url), home)
    client = connect(url)
    seen, found = memory.look(), Seen.read(read_seen(client))
    try:
        memory.verify(lambda: read_seen(client))
        return "nothing to adopt: these records go on from what this host has seen"
    except RecordsLost:
        assert seen is not None, "only what was seen can be lost"
    if found is not None and found.farm != seen.farm:
        memory.replace(found)
        return f"this host works with the records of farm {found.farm} now, no more with those of {seen.farm}"
    begin(client, seen.farm, epoch=max(seen.epoch, found.epoch if found else 0) + 1)
    adopted = Seen.read(read_seen(client))
    assert adopted is not None, "begin names the farm"
    memory.replace(adopted)
    what = "older" if found else "empty"
    return f"the {what} records are epoch {adopted.epoch} of farm {adopted.farm} now: its hosts follow"


def read_seen(client: Client) -> list[str | None]:
    """Which records these are, and how far: the values of memory.FIELDS."""
    found: list[str | None] = client.hmget(keys.META, *FIELDS)
    return found


def begin(client: Client, farm: str, epoch: int = 1) -> None:
    """Name the farm in records that name none, and raise their epoch; all at once. May be repeated."""
    pipe = client.pipeline(transaction=True)
    pipe.hsetnx(keys.META, "farm_id", farm)
    pipe.hsetnx(keys.META, "schema", keys.SCHEMA)
    if epoch > 1:
        pipe.hset(keys.META, "epoch", epoch)
    else:
        pipe.hsetnx(keys.META, "epoch", epoch)
    pipe.execute()
