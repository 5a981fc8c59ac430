"""The commands that are, or start, the farm's processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

from farm.records import Records
from tests.cli.conftest import Invoke
from tests.redis_server import RedisProcess


class Became(Exception):
    """The process would have become this one."""

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        super().__init__(argv)
        self.argv, self.environment = argv, environment


@pytest.fixture
def become(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What `farm WORDS` would become: its arguments and environment."""

    def execve(path: str, argv: list[str], environment: dict[str, str]) -> NoReturn:
        raise Became(argv, environment)

    monkeypatch.setattr(os, "execve", execve)

    def run(*words: str) -> Became:
        error = invoke("--redis", "redis://records/0", *words).exception
        assert isinstance(error, Became)
        return error

    return run


@pytest.mark.parametrize(
    ("words", "queues"),
    [
        (["worker", "device", "3"], "device.3"),
        (["worker", "device", "3", "--node", "host2"], "device.host2.3"),
        (["worker", "cpu"], "export,reference,compile,compare"),
        (["worker", "cpu", "-Q", "compile,export"], "compile,export"),
    ],
)
def test_a_worker_is_celerys_worker_of_its_queues(become: Any, words: list[str], queues: str) -> None:
    became = become(*words)
    assert became.argv[became.argv.index("-Q") + 1] == queues
    assert became.argv[1:6] == ["-m", "celery", "-A", "tasks", "worker"]
    assert became.environment["FARM_REDIS_URL"] == "redis://records/0"
    assert became.environment["FARM_BROKER_URL"] == "redis://records/0"


def test_bells_have_a_redis_of_their_own(become: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARM_BROKER_URL", "redis://bells/0")
    monkeypatch.setenv("FARM_NODE", "host7")
    became = become("worker", "device", "0")
    assert became.environment["FARM_BROKER_URL"] == "redis://bells/0"
    assert "device.host7.0" in became.argv


def test_a_node_that_cannot_be_a_queues_name_is_refused(invoke: Invoke) -> None:
    result = invoke("--redis", "redis://records/0", "worker", "device", "0", "--node", "a b")
    assert result.exit_code == 2
    assert "a b" in result.stderr


def test_the_coordinator_runs_until_it_is_told_to_stop(records: Records, redis_process: RedisProcess) -> None:
    words = [sys.executable, "-m", "farm", "--redis", redis_process.url, "coordinator"]
    with subprocess.Popen(words, stderr=subprocess.PIPE) as process:
        try:
            for _ in range(200):
                if records.coordinator_alive():
                    break
                assert process.poll() is None
                records.wait_change(0.05)
            else:
                pytest.fail("no coordinator came")
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_down_without_a_farm_is_done(invoke: Invoke) -> None:
    result = invoke("down")
    assert result.exit_code == 0
    assert "nothing is up" in result.stderr


def test_up_without_cards_says_how_to_emulate(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARM_SDK_ROOT", str(tmp_path / "none"))
    result = invoke("up", "--detach")
    assert result.exit_code == 2
    assert "farm up --emulate" in result.stderr


@pytest.mark.parametrize("words", [("coordinator",), ("worker", "cpu"), ("status",)], ids=" ".join)
def test_records_of_a_newer_schema_end_a_process_with_one_line(
    words: tuple[str, ...], records: Records, redis_process: RedisProcess
) -> None:
    records.client.hset("farm:meta", "schema", 99)
    done = subprocess.run(
        [sys.executable, "-m", "farm", "--redis", redis_process.url, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    told = [line for line in done.stderr.splitlines() if "these records have schema 99" in line]
    assert len(told) == 1, done.stderr
    assert "upgrade aic-farm" in told[0]
    assert "Traceback" not in done.stderr
    assert done.returncode == (0 if words[0] == "worker" else 2), "Celery ends a worker that gives up with 0"
