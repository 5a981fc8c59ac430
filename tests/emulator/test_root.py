"""An emulated root is laid out as the SDK, complete in itself, and never replaces anything else."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from farm.emulator import BadRoot, write_root
from farm.emulator.runtime import qpc
from tests.emulator.emulated import call, encoder, save, write_scenario

SMOKE = "test-data/aic100/v2/1nsp/1nsp-conv-hmx"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("roots") / "it's a root"  # a path that needs quoting
    write_root(directory, cards=4)
    return directory


def test_layout(root: Path) -> None:
    for tool in (
        "exec/qaic-exec",
        "exec/qaic-compile",
        "exec/qaic-runner",
        "tools/qaic-util",
        "tools/qaic-version-util",
        "tools/qaic-qpc",
        "dev/python/qaic-env/bin/python",
    ):
        assert os.access(root / tool, os.X_OK), tool
    assert (root / "dev/lib" / platform.machine()).is_dir()
    assert (root / SMOKE / "programqpc.bin").is_file()
    marker = json.loads((root / "emulator.json").read_text())
    assert (marker["emulated"], marker["sdk"], marker["timing"]) == (True, "1.21", "measured")
    cards = marker["cards"]
    assert [card["qid"] for card in cards] == [0, 1, 2, 3]
    for fact in ("serial", "hw_serial", "pci", "dev_link"):
        assert len({card[fact] for card in cards}) == 4


def test_old_profile_lacks_what_came_later(tmp_path: Path) -> None:
    write_root(tmp_path / "root", cards=1)
    write_root(tmp_path / "root", cards=2, sdk="1.12", timing="modelled")
    root = tmp_path / "root"
    assert not (root / "exec/qaic-compile").exists()
    assert not (root / "dev/python/qaic-env/bin/python").exists()
    assert "Number of devices: 2" in call(root / "tools/qaic-util").stdout
    assert call(root / "tools/qaic-version-util", "--apps").stdout == "apps:AIC.1.12.2\n"
    assert json.loads((root / "emulator.json").read_text())["timing"] == "modelled"


def test_versions_come_from_the_xml_files(root: Path) -> None:
    assert call(root / "tools/qaic-version-util").stdout == (
        "platform:AIC.1.21.6\napps:AIC.1.21.6\nfactory:not found\n"
    )
    assert "<base_version>1.21</base_version>" in (root / "versions/apps.xml").read_text()


def test_the_smoke_program_needs_one_core(root: Path) -> None:
    ran = call(root / "tools/qaic-qpc", "validate", "-i", str(root / SMOKE / "programqpc.bin"))
    assert ran.returncode == 0
    assert "Number of NSP required: 1\n" in ran.stdout


def test_qpc_tool_extracts_segments_and_refuses_other_files(root: Path, tmp_path: Path) -> None:
    source = root / SMOKE / "programqpc.bin"
    ran = call(
        root / "tools/qaic-qpc",
        "extract",
        "--qpc",
        str(source),
        "--output-dir",
        str(tmp_path / "out"),
        "-s",
        "*.json",
    )
    assert ran.returncode == 0
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["networkdesc.json"]
    data = bytes(qpc.read(source)["networkdesc.json"])
    assert (tmp_path / "out/networkdesc.json").read_bytes() == data
    ran = call(root / "tools/qaic-qpc", "validate", "-i", str(root / "emulator.json"))
    assert ran.returncode == 1
    assert "magic" in ran.stderr


def test_the_root_works_without_the_farm_and_from_another_place(root: Path, tmp_path: Path) -> None:
    moved = tmp_path / "opt" / "qti-aic"
    shutil.copytree(root, moved)
    model = save(encoder(), tmp_path / "model.onnx")
    ran = call(
        moved / "exec/qaic-exec",
        f"-m={model}",
        "-onnx-define-symbol=batch_size,1",
        "-onnx-define-symbol=sequence_length,4",
        "-aic-hw",
        "-compile-only",
        "-aic-binary-dir=out",
        cwd=tmp_path,
    )
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "out/programqpc.bin").is_file()
    imported = subprocess.run(
        [sys.executable, "-I", "-c", "import sys; sys.path[:0] = [sys.argv[1]]; import emulator.card as c;"
         "print([m for m in sys.modules if m.split('.')[0] == 'farm'], c.__file__)", str(moved / "lib")],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert imported.stdout == f"[] {moved}/lib/emulator/card.py\n"


def test_sdk_python_is_the_given_interpreter(root: Path) -> None:
    ran = call(root / "dev/python/qaic-env/bin/python", "-c", "import sys, numpy; print(sys.prefix)")
    assert ran.stdout.strip() == sys.prefix


def test_calls_are_noted(root: Path, tmp_path: Path) -> None:
    call(root / "tools/qaic-util", "-d", "3", cwd=tmp_path)
    last = json.loads((root / "state/calls.log").read_text().splitlines()[-1])
    assert (last["program"], last["argv"], last["cwd"]) == ("qaic-util", ["-d", "3"], str(tmp_path))


def test_the_roots_own_scenario_holds_until_the_root_is_rewritten(tmp_path: Path) -> None:
    rules = write_scenario(tmp_path / "s.json", {"tool": "qaic-util", "fault": "fail", "status": 5})
    write_root(tmp_path / "root", cards=1, scenario=rules)
    assert call(tmp_path / "root/tools/qaic-util").returncode == 5
    write_root(tmp_path / "root", cards=1)
    assert call(tmp_path / "root/tools/qaic-util").returncode == 0


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"cards": 0}, "cards=0"),
        ({"timing": "guessed"}, "timing=guessed"),
        ({"sdk": "1.13"}, "sdk=1.13"),
        ({"python": "/no/such/python"}, "/no/such/python"),
        ({"python": "/usr/bin/env"}, "/usr/bin/env"),
        ({"scenario": Path("/no/such/scenario.json")}, "/no/such/scenario.json"),
    ],
)
def test_impossible_roots_are_refused_by_name(tmp_path: Path, asked: dict[str, Any], named: str) -> None:
    with pytest.raises(BadRoot, match=named) as refused:
        write_root(tmp_path / "root", **asked)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "root/emulator.json").exists()


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BadRoot, match="not an emulated SDK root"):
        write_root(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]
