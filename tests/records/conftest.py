"""A real Redis for the tests of the records, one server for all of them, emptied for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from farm.records import Records, connect
from tests.redis_server import RedisProcess


@pytest.fixture(scope="module")
def redis_process() -> Iterator[RedisProcess]:
    server = RedisProcess()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def records(redis_process: RedisProcess) -> Iterator[Records]:
    client = connect(redis_process.url)
    client.flushall()
    found = Records(client)
    found.fleet.tick("test")
    yield found
    client.close()
