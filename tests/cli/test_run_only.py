"""`farm submit --run-only`: what is in the store is run, what is missing is said at once."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from farm.emulator import write_root
from farm.records import Records
from tests.cli.conftest import Invoke
from tests.stages.small_model import write_model

SHAPE = ("-t", "feature-extraction", "-b", "1", "-s", "16", "-c", "1", "-i", "1", "--time", "1")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model, and a host with an emulated card, whose store is empty."""
    write_root(tmp_path / "sdk", cards=1)
    monkeypatch.setenv("FARM_SDK_ROOT", str(tmp_path / "sdk"))
    monkeypatch.setenv("FARM_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    return write_model(tmp_path / "model")


def stages(records: Records, campaign: str) -> dict[str, Any]:
    [job] = records.jobs(campaign)
    found: dict[str, Any] = records.job(job["job"])["stages"]
    return found


def test_a_missing_artifact_is_said_and_nothing_is_recorded(
    farm: Invoke, records: Records, model: Path, tmp_path: Path
) -> None:
    result = farm("submit", "--run-only", "-m", str(model), *SHAPE)
    assert result.exit_code == 2
    [said] = result.stderr.splitlines()
    assert said.startswith(f"farm: {model} (feature-extraction): --run-only, but artifact export-")
    assert f"is not in the store {tmp_path / 'store'};" in said
    assert not list(records.client.scan_iter("farm:c:*"))
    assert not list((tmp_path / "store" / "objects").iterdir())


def test_what_is_there_is_not_asked_for_again(farm: Invoke, records: Records, model: Path) -> None:
    made = farm("run", "-m", str(model), *SHAPE, "--json")
    assert made.exit_code == 0, made.stderr
    result = farm("submit", "--run-only", "-m", str(model), *SHAPE, "--json")
    assert result.exit_code == 0, result.stderr
    found = stages(records, json.loads(result.stdout)["campaign"])
    assert {kind: (stage["state"], stage["attempts"]) for kind, stage in found.items()} == {
        "export": ("done", 0), "compile": ("done", 0), "reference": ("ready", 0), "run": ("ready", 0),
        "compare": ("waiting", 0),
    }  # fmt: skip
    known = {row["key"]: (row["state"], row["needed"]) for row in records.artifacts.overview()}
    outcome = json.loads(made.stdout)
    assert known == {outcome[key]: ("present", True) for key in ("onnx_key", "qpc_key")}

    other = farm("submit", "--run-only", "-m", str(model), *SHAPE, "-b", "2,4,8")
    assert other.exit_code == 2
    assert "artifact compile-" in other.stderr
    assert other.stderr.endswith("(and 2 more)\n")
    assert len(records.campaigns()) == 1


def test_an_artifact_that_was_to_make_way_stays(farm: Invoke, records: Records, model: Path) -> None:
    assert farm("run", "-m", str(model), *SHAPE).exit_code == 0
    words = ("submit", "--run-only", "-m", str(model), *SHAPE)
    campaign = farm(*words).stdout.strip()
    records.cancel([campaign])
    condemned = records.artifacts.condemn(10**12)
    assert len(condemned) == 2
    assert farm(*words).exit_code == 0
    assert not any(map(records.artifacts.is_condemned, condemned))
    assert records.artifacts.condemn(condemned) == []
    assert records.artifacts.stored() == sum(row["bytes"] for row in records.artifacts.overview()) > 0


def test_an_sdk_or_a_store_that_cannot_be_looked_at_is_said_once(
    farm: Invoke, records: Records, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("submit", "--run-only", "-m", str(model), *SHAPE, "-b", "2,4")
    (tmp_path / "file").touch()
    with monkeypatch.context() as here:
        here.setenv("FARM_STORE", str(tmp_path / "file" / "store"))
        result = farm(*words)
        assert result.exit_code == 2
        [said] = result.stderr.splitlines()
        assert said.startswith(f"farm: --run-only cannot look into the store {tmp_path}/file/store: ")
    monkeypatch.setenv("FARM_SDK_ROOT", str(tmp_path / "none"))
    result = farm(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"farm: SDK root {tmp_path}/none: no such folder; ")
    assert "more)" not in result.stderr
    assert records.campaigns() == []


def test_a_host_that_cannot_look_says_so(
    farm: Invoke, records: Records, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("farm.stages.export.version", absent)
    result = farm("submit", "--run-only", "-m", "bert-base-cased", "--weights", "random")
    assert result.exit_code == 2
    [said] = result.stderr.splitlines()
    assert said == "farm: this needs torch, which is not installed here: pip install 'aic-farm[cpu]'"
    assert records.campaigns() == []
