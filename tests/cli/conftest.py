"""The command line in this process, and a real Redis behind it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from farm.cli.context import Farm
from farm.cli.main import cli
from farm.records import Records
from tests.redis_server import RedisProcess

Invoke = Callable[..., Result]


@pytest.fixture
def invoke() -> Invoke:
    """Run `farm` with these words; no farm unless --redis names one."""

    def run(*words: str) -> Result:
        return CliRunner().invoke(cli, words, obj=Farm(argv=words))

    return run


@pytest.fixture
def farm(records: Records, redis_process: RedisProcess, invoke: Invoke) -> Invoke:
    """Run `farm` against the records."""
    return lambda *words: invoke("--redis", redis_process.url, *words)
