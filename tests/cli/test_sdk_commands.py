"""The commands that look at an SDK root, over an emulated one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from farm.records import Records
from tests.cli.conftest import Invoke


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


def test_doctor_on_a_healthy_farm(emulated: Path, farm: Invoke, records: Records) -> None:
    records.fleet.tick("test")
    result = farm("doctor", "--json")
    checks = {check["check"]: check for check in json.loads(result.stdout)}
    assert result.exit_code == 0, result.stdout
    assert checks["SDK"]["state"] == "ok"
    assert "emulated, measured" in checks["SDK"]["detail"]
    assert checks["card 0"]["state"] == checks["card 1"]["state"] == "ok"
    assert checks["coordinator"]["state"] == checks["card locks"]["state"] == "ok"


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


def test_run_runs_one_job(emulated: Path, invoke: Invoke) -> None:
    result = invoke("run", "-m", "bert-base-cased", "-b", "1,2")
    assert result.exit_code == 2
    assert "make 2 jobs" in result.stderr
