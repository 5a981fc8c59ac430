"""The commands that look at an SDK root, over an emulated one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from farm.cli.sdk_checks import sdk_checks
from farm.sdk.launcher import CardLockRequest, DirectLauncher
from farm.sdk.lock import lock_folder
from farm.sdk.root import find_root
from tests.cli.conftest import Invoke
from tests.stages.small_model import write_model


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from click.testing import CliRunner

    from farm.cli.main import cli

    folder = tmp_path_factory.mktemp("sdk") / "root"
    result = CliRunner().invoke(cli, ["emulator", "init", str(folder), "--cards", "2"])
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{folder}\n"
    return folder


@pytest.fixture
def emulated(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """FARM_SDK_ROOT is an emulated root with two cards."""
    monkeypatch.setenv("FARM_SDK_ROOT", str(root))
    return root


def test_emulator_init_refuses_a_folder_that_holds_something_else(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    result = invoke("emulator", "init", str(tmp_path))
    assert result.exit_code == 2
    assert result.stderr.startswith("farm: ")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_doctor_has_a_line_a_check_and_fails_when_one_is_bad(emulated: Path, invoke: Invoke) -> None:
    result = invoke("doctor")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert any(line.startswith("BAD   Redis: no farm") for line in lines)
    assert any(line.startswith("ok    card 1: ") for line in lines)


def test_doctor_without_an_sdk_says_how_to_emulate(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARM_SDK_ROOT", str(tmp_path / "none"))
    result = invoke("doctor")
    assert result.exit_code == 1
    assert "BAD   SDK: " in result.stdout
    assert "farm up --emulate" in result.stdout


def test_devices_compose_without_an_sdk_is_bad_input(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARM_SDK_ROOT", str(tmp_path / "none"))
    assert invoke("devices", "--compose").exit_code == 2


def test_devices_compose_names_the_cards(emulated: Path, invoke: Invoke) -> None:
    result = invoke("devices", "--compose")
    assert result.exit_code == 0, result.stderr
    assert "  device-0:\n    devices: !override " in result.stdout
    assert "  device-7:\n    profiles: [no-card]\n" in result.stdout


def test_devices_compose_does_not_ask_a_card_that_measures(emulated: Path, invoke: Invoke) -> None:
    with DirectLauncher().hold(CardLockRequest(lock_folder(emulated), "0000:23:00.0", 14, qid=1), 1.0):
        result = invoke("devices", "--compose")
    assert result.exit_code == 2
    assert "card 0000:23:00.0 is held and is not asked" in result.stderr


def test_run_runs_one_job(emulated: Path, invoke: Invoke) -> None:
    result = invoke("run", "-m", "bert-base-cased", "-b", "1,2")
    assert result.exit_code == 2
    assert "make 2 jobs" in result.stderr


def test_doctor_does_not_ask_a_card_that_measures(emulated: Path, invoke: Invoke) -> None:
    held = CardLockRequest(lock_folder(emulated), "0000:23:00.0", 14, qid=1)
    log = emulated / "state/calls.log"
    with DirectLauncher().hold(held, 1.0):
        before = len(log.read_text().splitlines())
        lines = invoke("doctor").stdout.splitlines()
        calls = [json.loads(line) for line in log.read_text().splitlines()[before:]]
    assert any(line.startswith("ok    card 0: ") for line in lines)
    [said] = [line for line in lines if "card 1: " in line]
    assert said.startswith("note")
    assert "not asked" in said
    asked = [call["argv"] for call in calls if call["program"] == "qaic-util"]
    assert ["-q", "-d", "0"] in asked
    assert not [argv for argv in asked if argv == ["-q"] or argv[-1] == "1"]


def test_a_card_whose_node_is_not_told_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = """QID 0
\tStatus:Ready
\tPCI Address:0000:01:00.0
\tNsp Total:14
\tNsp Free:14"""
    tools = {
        "exec/qaic-exec": "echo -aic-hw",
        "exec/qaic-runner": "echo --set-size",
        "tools/qaic-util": f"cat <<'END'\n{record}\nEND",
    }
    for name, script in tools.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    monkeypatch.setenv("FARM_SDK_ROOT", str(tmp_path))
    monkeypatch.setenv("FARM_LOCK_DIR", str(tmp_path / "locks"))
    [check] = [check for check in sdk_checks(find_root) if check.what == "card 0"]
    assert check.state == "note"
    assert "no device node" in check.detail


def test_run_only_with_nothing_there_is_bad_input(emulated: Path, invoke: Invoke, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    words = ("run", "-r", "-m", str(model), "-t", "feature-extraction", "--workdir", str(tmp_path / "work"))
    result = invoke(*words)
    assert result.exit_code == 2, result.stderr
    said = result.stderr.strip().splitlines()[-1]
    assert "--run-only" in said
    assert "export-" in said


def test_run_takes_the_card_that_nobody_holds(emulated: Path, invoke: Invoke, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    held = CardLockRequest(lock_folder(emulated), "0000:21:00.0", 14, qid=0)
    words = ("-t", "feature-extraction", "-b", "1", "-s", "16", "-c", "1", "-i", "1", "--time", "1", "--json")
    with DirectLauncher().hold(held, 1.0):
        result = invoke("run", "-m", str(model), *words, "--workdir", str(tmp_path / "work"))
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["device"] == "1"
