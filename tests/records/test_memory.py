"""Which records a Redis holds is remembered: empty, older or another farm's are refused until adopted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from farm.domain.errors import RecordsLost
from farm.records import Records, adopt, keys, open_records
from farm.records.connection import Client
from farm.records.memory import Memory
from tests.records import scene
from tests.redis_server import RedisProcess


@pytest.fixture
def redis(redis_process: RedisProcess, records: Records) -> Client:
    """Of the server that the records are on: for what an operator or a fault does to it."""
    return records.client


@pytest.fixture
def url(redis_process: RedisProcess) -> str:
    return redis_process.url


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def worked(url: str, home: Path, redis: Client) -> Iterator[Records]:
    """Records that this host has worked with."""
    opened = open_records(url, home=home)
    opened.look()
    yield opened
    opened.client.close()


def set_back(redis: Client, ms: int) -> None:
    """As a copy made `ms` earlier on the farm clock."""
    redis.hincrby(keys.META, "clock", -ms)


def test_a_new_farm_begins_and_goes_on_without_ceremony(redis: Client, url: str, home: Path) -> None:
    redis.flushall()
    first = open_records(url, home=home)
    for _ in range(3):
        first.fleet.tick("test")
        assert open_records(url, home=home).farm_id == first.farm_id != ""


def test_two_that_begin_at_once_begin_one_farm(redis: Client, url: str) -> None:
    for _ in range(20):
        redis.flushall()
        start, found = threading.Barrier(2), list[str]()

        def begin(start: threading.Barrier = start, found: list[str] = found) -> None:
            start.wait()
            found.append(open_records(url).farm_id)

        both = [threading.Thread(target=begin) for _ in range(2)]
        for each in both:
            each.start()
        for each in both:
            each.join()
        assert len(found) == 2
        assert found[0] == found[1]


@pytest.mark.parametrize(
    ("what", "told"),
    [
        (lambda redis: redis.flushall(), "is empty, but held the records of farm"),
        (lambda redis: redis.hset(keys.META, "farm_id", "b0b0"), "records of farm b0b0, but held those of"),
        (lambda redis: set_back(redis, 200), "the last 0.2 s of its work are missing"),
    ],
    ids=["empty", "another's", "older"],
)
def test_other_records_are_neither_read_nor_written(
    worked: Records, redis: Client, url: str, home: Path, what: Callable[[Client], object], told: str
) -> None:
    scene.submit(worked, scene.job())
    worker = scene.cpu(worked)
    scene.advance(worked, 100)
    worked.look()
    what(redis)
    before = redis.hgetall(keys.META), redis.dbsize()
    with pytest.raises(RecordsLost, match=told):
        worked.claims.claim(worker, "export", "export", "nonce")
    with pytest.raises(RecordsLost, match=told):
        worked.fleet.tick("test")
    with pytest.raises(RecordsLost, match=told):
        open_records(url, home=home)
    worked.client.connection_pool.disconnect()
    with pytest.raises(RecordsLost, match=r"put its append-only file back, or go on .* `farm adopt`"):
        worked.status()
    assert (redis.hgetall(keys.META), redis.dbsize()) == before


def test_adopted_records_are_those_of_every_host(redis: Client, url: str, home: Path, tmp_path: Path) -> None:
    here, there = (open_records(url, home=folder) for folder in (home, tmp_path / "there"))
    for each in (here, there):
        each.fleet.tick("test")
        scene.advance(each, 100)
        each.look()
    farm = here.farm_id
    redis.flushall()
    assert "the empty records are epoch 2" in adopt(url, home)
    for each in (here, there, open_records(url, home=tmp_path / "there")):
        each.fleet.tick("test")
        each.look()
        assert each.farm_id == farm
    redis.hset(keys.META, mapping={"epoch": 1, "clock": 9_000_000})
    with pytest.raises(RecordsLost, match="from before epoch 2 was adopted"):
        there.fleet.tick("test")


def test_another_farms_records_are_followed_and_left_as_they_are(
    worked: Records, redis: Client, url: str, home: Path
) -> None:
    redis.hset(keys.META, "farm_id", "b0b0")
    before = redis.hgetall(keys.META)
    assert "works with the records of farm b0b0 now" in adopt(url, home)
    assert redis.hgetall(keys.META) == before
    worked.fleet.tick("test")
    assert worked.farm_id == open_records(url, home=home).farm_id == "b0b0"


def test_each_redis_has_a_memory_of_its_own(worked: Records, redis: Client, home: Path) -> None:
    """A host that looks at two farms refuses neither."""
    other = RedisProcess()
    other.start()
    try:
        assert open_records(other.url, home=home).farm_id != worked.farm_id
        worked.look()
    finally:
        other.stop()


def test_what_others_saw_while_the_answer_was_on_its_way_is_no_step_back(home: Path) -> None:
    slow, quick = Memory("redis://r", home), Memory("redis://r", home)

    def answer_late() -> list[str]:
        quick.verify(lambda: ["farm", "1", "9000"])
        return ["farm", "1", "1000"]

    slow.verify(answer_late)
    with pytest.raises(RecordsLost):
        slow.verify(lambda: ["farm", "1", "1000"])


def test_a_home_that_cannot_be_written_is_no_hindrance(worked: Records, url: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert open_records(url, home=tmp_path / "file").farm_id == worked.farm_id
