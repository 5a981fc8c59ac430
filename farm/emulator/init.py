"""Write an emulated SDK root: a folder laid out as `/opt/qti-aic`, complete in itself."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from farm.emulator.runtime import scenario as scenarios
from farm.emulator.runtime import settings, turns
from farm.emulator.runtime.faults import BadScenario

_RUNTIME = Path(__file__).parent / "runtime"
_SMOKE = Path("test-data/aic100/v2/1nsp/1nsp-conv-hmx")
_MAX_CARDS = 64
#: Executable -> whether the standard library suffices (and start-up without site-packages is quick).
_TOOLS = {
    "exec/qaic-exec": False,
    "exec/qaic-compile": False,
    "exec/qaic-runner": False,
    "tools/qaic-util": True,
    "tools/qaic-version-util": True,
    "tools/qaic-qpc": True,
}
_MODERN_ONLY = {"exec/qaic-compile"}
_VERSION = """<versions>
        <ci_build>
           <base_name>AIC</base_name>
           <base_version>{base}</base_version>
           <build_id>{build}</build_id>
        </ci_build>
        </versions>
"""


class BadRoot(ValueError):
    """The root cannot be written as asked; one line with the cause."""


def write_root(
    directory: Path,
    *,
    cards: int = 8,
    timing: str = "measured",
    sdk: str = "1.21",
    scenario: Path | None = None,
    python: str = sys.executable,
) -> None:
    """Write an emulated SDK root to `directory`, or rewrite the one that is there (its run-time state stays).

    `python` runs the tools; it needs numpy, onnx and onnxruntime. Raises BadRoot for impossible arguments,
    for a folder that holds something else, for a malformed scenario and for an interpreter that lacks a
    package.
    """
    if not 1 <= cards <= _MAX_CARDS:
        raise BadRoot(f"cards={cards}: must be 1 to {_MAX_CARDS}")
    if timing not in settings.TIMINGS:
        raise BadRoot(f"timing={timing}: must be one of {', '.join(settings.TIMINGS)}")
    if sdk not in settings.SDK_PROFILES:
        raise BadRoot(f"sdk={sdk}: must be one of {', '.join(settings.SDK_PROFILES)}")
    directory = directory.absolute()
    marker = directory / settings.MARKER
    if directory.exists() and not marker.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise BadRoot(f"{directory}: holds something that is not an emulated SDK root: name an empty folder")
    if scenario is not None:
        try:
            scenarios.parse(scenario)
        except BadScenario as error:
            raise BadRoot(str(error)) from error
    interpreter = shutil.which(python)
    if interpreter is None:
        raise BadRoot(f"python={python}: no such interpreter")
    for folder in ("state", "lock", "versions"):
        (directory / folder).mkdir(parents=True, exist_ok=True)
    _make_state(directory / "state", cards)
    _copy_runtime(directory)
    _write_tools(directory, interpreter, sdk != "1.12")
    base, _, build = settings.SDK_BUILDS[sdk].rpartition(".")
    for package in ("apps", "platform"):
        (directory / "versions" / f"{package}.xml").write_text(_VERSION.format(base=base, build=build))
    own_scenario = directory / scenarios.FILE
    own_scenario.unlink(missing_ok=True)
    if scenario is not None:
        shutil.copyfile(scenario, own_scenario)
    _prepare(directory, interpreter, settings.SDK_BUILDS[sdk])
    contents = {"emulated": True, "sdk": sdk, "timing": timing, "cards": [_card(qid) for qid in range(cards)]}
    marker.write_text(json.dumps(contents, indent=1) + "\n")


def _card(qid: int) -> dict[str, Any]:
    """The facts of a Standard card: 14 cores, 16 GB, 75 W. Source: docs/sdk.md, "cards"."""
    return {
        "qid": qid,
        "serial": f"PN471-12-3430{16 + qid:02d}",
        "hw_serial": f"0x64b5{0x276B + qid:04x}",
        "pci": f"0000:{0x21 + 2 * qid:02x}:00.0",
        "sku": "PCIe",
        "nsp_total": 14,
        "dram_mb": 16308,
        "tdp_w": 75.0,
        "mhi": qid,
        "dev_link": f"/dev/accel/accel{qid + 1}",
    }


def _make_state(state: Path, cards: int) -> None:
    """The files that the tools share, before any tool runs: one run with sudo must not own them."""
    slots = [f"card-{slot}" for slot in range(cards)]
    names = [
        "calls.log",
        "scenario.lock",
        turns.FILE,
        *(f"{slot}{suffix}" for slot in slots for suffix in (".lock", ".log")),
    ]
    for name in names:
        path = state / name
        if not path.exists():
            path.touch()
            os.utime(path, (0, 0))  # a card's log dates its last activation: there was none


def _copy_runtime(directory: Path) -> None:
    """The package `emulator` below lib/, and the SDK's Python modules below dev/lib/<machine>/."""
    package = directory / "lib" / "emulator"
    modules = directory / "dev" / "lib" / platform.machine()
    for old in (package, modules):
        shutil.rmtree(old, ignore_errors=True)
    leave_out = shutil.ignore_patterns("__pycache__", "pymodules")
    shutil.copytree(_RUNTIME, package, ignore=leave_out)
    shutil.copytree(_RUNTIME / "pymodules", modules, ignore=shutil.ignore_patterns("__pycache__"))


def _write_tools(directory: Path, interpreter: str, modern: bool) -> None:
    launcher = '"${0%/*}/../lib/emulator/launch.py"'
    for tool, stdlib_only in _TOOLS.items():
        path = directory / tool
        path.unlink(missing_ok=True)
        if tool in _MODERN_ONLY and not modern:
            continue
        flags = "-I -S" if stdlib_only else "-I"
        _write_executable(path, f'exec {_quoted(interpreter)} {flags} {launcher} {path.name} "$@"')
    python = directory / "dev" / "python" / "qaic-env" / "bin" / "python"
    python.unlink(missing_ok=True)
    if modern:
        _write_executable(python, f'exec {_quoted(interpreter)} "$@"')


def _quoted(path: str) -> str:
    return "'" + path.replace("'", "'\\''") + "'"


def _write_executable(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def _prepare(directory: Path, interpreter: str, build: str) -> None:
    """Compile the runtime's modules, so that tools start quickly, and the SDK's test program."""
    smoke = directory / _SMOKE
    shutil.rmtree(smoke, ignore_errors=True)
    smoke.mkdir(parents=True)
    library = directory / "lib"
    environment = {**os.environ, "PYTHONPATH": str(library)}
    for arguments in (
        ["-S", "-m", "compileall", "-q", str(library)],
        ["-m", "emulator.smoke", str(smoke), build],
    ):
        ran = subprocess.run(
            [interpreter, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if ran.returncode != 0:
            cause = (ran.stderr or ran.stdout).strip().splitlines()[-1:] or [f"status {ran.returncode}"]
            raise BadRoot(
                f"python={interpreter}: cannot run the emulated SDK: {cause[0]}: "
                "it needs numpy, onnx and onnxruntime (pip install 'aic-farm[emulator]')"
            )
