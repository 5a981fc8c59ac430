"""The commands file, run as it stands by a clean shell."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from farm.domain.job import CardConfiguration
from farm.sdk.launcher import DirectLauncher
from farm.sdk.qpc import check_qpc
from farm.sdk.root import Sdk
from farm.stages.run import PreparedRun, execute_run
from tests.stages.conftest import CONFIG, MakeRoot
from tests.stages.test_run import card, prepared_run


def finished(
    sdk: Sdk, onnx: Path, tmp_path: Path, python: Path, name: str = "attempt", **changes: object
) -> PreparedRun:
    prepared = prepared_run(sdk, onnx, tmp_path, name, **changes)
    execute_run(prepared, card(sdk), DirectLauncher(), sdk, python=python)
    return prepared


@pytest.fixture
def exporter(tmp_path: Path, onnx_file: Path) -> Path:
    """Stands for the interpreter of a farm that can export: notes its arguments, delivers the model."""
    tool = tmp_path / "an interpreter"
    tool.write_text(
        f'#!/bin/sh\necho "$@" > exported\nfor folder; do :; done\ncp {onnx_file} "$folder/model.onnx"\n'
    )
    tool.chmod(0o755)
    return tool


@pytest.mark.parametrize("profile", ["1.12", "1.21"])
@pytest.mark.parametrize("route", ["runner", "api"])
def test_pasted_into_a_clean_shell_it_makes_the_result_again(
    make_root: MakeRoot, onnx_file: Path, exporter: Path, tmp_path: Path, profile: str, route: str
) -> None:
    sdk = make_root(profile)
    prepared = finished(sdk, onnx_file, tmp_path, exporter, route=route)
    folder = prepared.tree.folder
    before = {path: path.stat().st_mtime_ns for path in prepared.tree.outputs.iterdir()}
    result = subprocess.run(
        ["/bin/sh", "-e"],
        input=prepared.tree.commands.read_text(),
        cwd=folder,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    motif = prepared.tree.motif
    [program] = folder.glob(f"repro-compiled-bin-fp16-{motif}-*")
    assert check_qpc(program) > 0
    [again] = folder.glob(f"repro-outputFiles-fp16-{motif}-*")
    for path in prepared.outputs.values():
        assert (again / path.name).read_bytes() == path.read_bytes()
    assert "-t feature-extraction --opset 13 --seed 0" in (folder / "exported").read_text()
    assert {path: path.stat().st_mtime_ns for path in prepared.tree.outputs.iterdir()} == before


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_pasted_twice_into_one_shell_each_has_folders_of_its_own(
    make_root: MakeRoot, onnx_file: Path, exporter: Path, tmp_path: Path, shell: str
) -> None:
    prepared = finished(make_root(), onnx_file, tmp_path, exporter)
    folder = prepared.tree.folder
    result = subprocess.run(
        [shell, "-eu"],
        input=prepared.tree.commands.read_text() * 2,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("Inf/Sec") == 2
    for what in ("model", "compiled-bin-fp16", "outputFiles-fp16"):
        assert len(list(folder.glob(f"repro-{what}-*"))) == 2
    for again in folder.glob("repro-outputFiles-fp16-*"):
        for path in prepared.outputs.values():
            assert (again / path.name).read_bytes() == path.read_bytes()


def test_what_it_holds_and_what_it_never_holds(
    make_root: MakeRoot,
    onnx_file: Path,
    exporter: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    sdk = make_root()
    text = finished(sdk, onnx_file, tmp_path, exporter).tree.commands.read_text()
    commands = [shlex.split(line) for line in text.splitlines()]
    assert commands.pop() == ["unset", "REPRO"]
    assert commands[0][:2] == ["mkdir", "-p"]
    assert commands[1][:4] == [str(exporter), "-m", "farm", "export"]
    assert commands[2][0] == str(sdk.compiler)
    assert commands[3][0] == str(sdk.runner)
    assert all(Path(command[0]).is_absolute() for command in commands[1:])
    assert "sudo" not in text
    assert "hf_secret" not in text
    made = [word for command in commands for word in command if "repro-" in word]
    fresh = r"(\$REPRO|\$\{REPRO:=\$\(mktemp -u XXXXXXXX\)\})"
    assert all(re.search(rf"(^|=)repro-[\w-]+-{fresh}(/model\.onnx)?$", word) for word in made)


def test_the_model_is_named_by_its_revision_and_weights(
    make_root: MakeRoot, onnx_file: Path, exporter: Path, tmp_path: Path
) -> None:
    sdk = make_root()
    config = CardConfiguration(2, 16, 2, 1, 1, ols=1)
    assert config.cores == CONFIG.cores
    pinned = finished(sdk, onnx_file, tmp_path, exporter, revision="abc", config=config)
    assert " -m org/small@abc " in pinned.tree.commands.read_text()
    random = finished(
        sdk, onnx_file, tmp_path, exporter, name="random", weights="random", trust_remote_code=True
    )
    text = random.tree.commands.read_text()
    assert " -m org/small -t " in text
    assert " --weights random --trust-remote-code repro-model-" in text
