"""The command's frame: lazy, one-line errors, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from farm import __version__
from farm.cli.main import COMMANDS, cli
from tests.cli.conftest import Invoke

FARM = Path(sys.executable).with_name("farm")


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FARM, *words], capture_output=True, text=True, timeout=60, env={**os.environ, **environment}
    )


def test_help_is_quick_in_a_cold_process() -> None:
    run("--help")
    best = min(_cpu_seconds("--help") for _ in range(5))
    assert best < 0.5, f"farm --help took {best:.2f} s at best (budget 0.25 s on an idle machine)"


def _cpu_seconds(*words: str) -> float:
    """Of the command's process: what a busy machine adds to its time does not count."""
    before = os.times()
    assert run(*words).returncode == 0
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def test_help_lists_every_command() -> None:
    text = run("--help").stdout
    assert all(f"  {name} " in text for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_the_summary_of_the_list(name: str, invoke: Invoke) -> None:
    result = invoke(name, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: cli {name}")
    with click.Context(cli) as context:
        command = cli.get_command(context, name)
    assert command is not None
    assert command.help


def test_version(invoke: Invoke) -> None:
    assert invoke("--version").stdout == f"farm {__version__}\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["subimt"], "did you mean submit?"),
        (["status", "--nope"], "--nope"),
        (["results", "--format", "xml"], "xml"),
        (["emulator", "init"], "DIRECTORY"),
        (["worker", "device", "three"], "three"),
        (["worker", "cpu", "-Q", "bogus"], "bogus"),
        (["submit"], "name the models in one way"),
    ],
)
def test_bad_usage_is_one_line_on_stderr_and_exit_2(words: list[str], says: str, invoke: Invoke) -> None:
    result = invoke(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("farm: ")
    assert result.stderr.count("\n") == 1
    assert says in result.stderr


@pytest.mark.parametrize(
    "command", ["status", "results", "jobs", "campaigns", "cancel", "retry", "wait", "devices"]
)
def test_an_unreachable_redis_is_exit_3(command: str, invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("--redis", f"unix://:secret@{tmp_path}/none.sock", command)
    assert result.exit_code == 3
    assert result.stderr.startswith("farm: cannot reach Redis")
    assert "secret" not in result.stderr


def test_redis_is_taken_after_the_command_too(invoke: Invoke, tmp_path: Path) -> None:
    before = invoke("--redis", f"unix://{tmp_path}/a.sock", "campaigns")
    after = invoke("campaigns", "--redis", f"unix://{tmp_path}/a.sock")
    assert (before.exit_code, before.stderr) == (after.exit_code, after.stderr) == (3, before.stderr)


def test_without_a_farm_the_error_says_how_to_start_one(invoke: Invoke) -> None:
    result = invoke("status")
    assert result.exit_code == 3
    assert "farm up" in result.stderr


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    with subprocess.Popen(
        [FARM, "catalog", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0
