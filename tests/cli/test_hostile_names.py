"""Names and texts from outside: none reaches another record, a folder of its choice, or the terminal raw."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from rich.console import Console

from farm.domain.errors import BadInput
from farm.domain.job import TASKS, CardConfiguration, Job
from farm.domain.names import check_label, split_model
from farm.domain.states import after_failure
from farm.records import Records, keys
from farm.report.status import campaigns_grid
from farm.stages.workdir import tree
from tests.cli.conftest import Invoke
from tests.hostile import CONTROLS, SYNTAX, TEXTS
from tests.records import scene
from tests.redis_server import RedisProcess

over_redis = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
    max_examples=settings().max_examples // 4,
)
#: What stands in for a name where a command wants one.
HOSTILE = TEXTS | st.builds("{}{}".format, SYNTAX, CONTROLS) | CONTROLS
#: An SDK's line that would clear the screen, colour what follows, set the title, and forge a line of ours.
EVIL = "\x1b[2J\x1b[31mred\x1b]0;owned\x07\r\nfarm: all is well [bold]\u202e\x9b"


def everything(records: Records) -> dict[str, bytes]:
    """Each key of the records, and what it holds."""
    return {
        key: records.client.execute_command("DUMP", key, NEVER_DECODE=True)
        for key in records.client.scan_iter()
    }


def shown_safely(result: Result) -> None:
    """Whatever was printed moves no cursor: printable characters and line ends alone."""
    for text in (result.stdout, result.stderr):
        assert text.replace("\n", "").isprintable(), repr(text)


@given(name=HOSTILE)
@over_redis
def test_a_name_that_is_none_is_refused_and_touches_no_record(
    farm: Invoke, records: Records, name: str
) -> None:
    assume(not name.startswith("-"))
    if records.latest() is None:
        scene.submit(records, scene.job())
        scene.card(records)
    records.fleet.tick("test")
    campaign = records.latest() or ""
    assume(name != "0")  # there is such a card
    assume(not campaign.startswith(name) or not name)
    before = everything(records)
    for words in (
        *(["status", name], ["results", name], ["jobs", name], ["jobs", f"{name}.1"], ["logs", name]),
        *(["cancel", name], ["cancel", f"{campaign}.1{name or '.'}"], ["retry", name], ["wait", name]),
        *(["devices", "drain", name], ["devices", "resume", f"device.0{name or '.'}"]),
    ):
        result = farm(*words)
        assert result.exit_code == 2, (words, result.output, result.exception)
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1
        shown_safely(result)
    assert everything(records) == before


@given(label=HOSTILE)
@over_redis
def test_a_label_is_shown_as_it_was_given_or_refused(farm: Invoke, records: Records, label: str) -> None:
    records.fleet.tick("test")
    before = records.client.zcard(keys.CAMPAIGNS)
    result = farm("submit", "-m", "bert-base-cased", f"--label={label}")
    shown_safely(result)
    if result.exit_code == 2:
        with pytest.raises(BadInput):
            check_label(label)
        assert records.client.zcard(keys.CAMPAIGNS) == before
        return
    campaign = result.stdout.strip()
    assert records.client.hget(keys.campaign(campaign), "label") == label
    entry = {"campaign": campaign, "label": label, "priority": 0, "state": "waiting", "created": "now"}
    shown = io.StringIO()
    Console(file=shown, width=240).print(campaigns_grid([entry | {"jobs": {"total": 1}}]).rich())
    assert shown.getvalue().replace("\n", "").isprintable()
    assert label.strip() in shown.getvalue()


@given(name=HOSTILE, task=st.sampled_from(TASKS))
def test_a_models_folder_lies_below_the_working_directory(name: str, task: Any) -> None:
    try:
        _, model, _ = split_model(name)
    except BadInput:
        return
    job = Job(model, task, "balanced", CardConfiguration(1, 128, 1, 1, 1))
    made = tree(Path("/work dir/of '$(id)'"), job)
    for path in (made.folder, made.model, made.batch_io, made.outputs, made.qpc, made.commands):
        inside = path.relative_to("/work dir/of '$(id)'")
        assert ".." not in inside.parts
        assert re.fullmatch(r"[A-Za-z0-9._/-]+", str(inside))
        assert not any(part.startswith("-") for part in inside.parts)


def failed(records: Records, log: Path) -> str:
    """A job whose export failed with EVIL, on a farm whose card says EVIL of itself."""
    campaign = scene.submit(records, scene.job())
    export = scene.must_claim(records, scene.cpu(records, f"w{EVIL}"), "export")
    records.claims.ended(
        export.stage, export.token, after_failure("input", {}, []), error=f"said {EVIL}", log=str(log)
    )
    scene.card(records)
    records.fleet.refresh_card("device.0", {"serial": EVIL, "sku": EVIL})
    records.fleet.set_health("device.0", "suspect", EVIL)
    return campaign


def test_what_the_sdk_said_reaches_the_terminal_spelt_out(
    farm: Invoke, records: Records, tmp_path: Path
) -> None:
    campaign = failed(records, tmp_path / "log")
    for words in (
        *(["jobs"], ["jobs", f"{campaign}.1"], ["status"], ["results"], ["results", "--format", "md"]),
        *(["devices"], ["campaigns"], ["status", "--json"], ["devices", "--json"], ["doctor"]),
    ):
        result = farm(*words)
        shown_safely(result)
    assert r"\x1b[2J\x1b[31mred\x1b]0;owned\x07 farm: all is well [bold]" in farm("jobs").stdout


def test_an_error_is_one_printable_line(farm: Invoke) -> None:
    for words in (
        ["logs", EVIL],
        ["submit", "-m", EVIL],
        [EVIL],
        ["status", f"--{EVIL}"],
        ["--redis", EVIL, "status"],
        ["submit", "--models-file", EVIL],
        ["doctor", f"x{EVIL}"],
        ["submit", "-m", "bert-base-cased", "--lut", f"x{EVIL}"],
    ):
        result = farm(*words)
        assert result.exit_code in (2, 3)
        assert result.stderr.startswith("farm: ")
        assert result.stderr.count("\n") == 1
        shown_safely(result)


def on_a_terminal(words: list[str]) -> bytes:
    """What a command prints on a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "farm", *words], stdout=theirs, stderr=subprocess.DEVNULL
    ) as child:
        os.close(theirs)
        said = b""
        try:
            while block := os.read(ours, 65536):
                said += block
        except OSError:  # the other end is closed: Linux says EIO
            pass
        finally:
            os.close(ours)
        assert child.wait(30) == 0
    return said


def test_a_log_is_raw_in_a_pipe_and_spelt_out_on_a_terminal(
    farm: Invoke, records: Records, redis_process: RedisProcess, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    raw = b"10%\r20%\r\n\tcaf\xc3\xa9 \xff" + EVIL.encode()
    log.write_bytes(raw)
    campaign = failed(records, log)
    words = ["logs", f"{campaign}.1", "--stage", "export"]
    assert farm(*words).stdout_bytes == raw
    seen = on_a_terminal(["--redis", redis_process.url, *words]).decode()
    assert seen.replace("\r\n", "\n").startswith("10%\n20%\n\tcafé ")
    assert r"\x1b[2J\x1b[31mred\x1b]0;owned\x07" in seen
    assert seen.replace("\r\n", "").replace("\t", "").replace("\ufffd", "").isprintable()


def test_a_remark_about_a_path_is_spelt_out(farm: Invoke, records: Records, tmp_path: Path) -> None:
    log = tmp_path / "l\x1b[31m\u202eog"
    log.touch()
    campaign = failed(records, log)
    result = farm("logs", f"{campaign}.1", "--stage", "export")
    assert r"l\x1b[31m\u202eog is empty" in result.stderr
