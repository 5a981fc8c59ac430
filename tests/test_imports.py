"""Imports point one way, and the processes that must start fast load nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ["torch", "transformers", "optimum", "sentence_transformers", "onnx", "onnxruntime"]


def _loaded_by(module: str, suspects: list[str]) -> list[str]:
    code = f"import sys, {module}; print(*[name for name in {suspects!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )
    return done.stdout.split()


def test_layers_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", ["farm.cli.main", "farm.worker", "farm.coordinator", "tasks"])
def test_only_the_exporters_child_loads_torch(module: str) -> None:
    assert _loaded_by(module, HEAVY) == []


def test_the_command_line_loads_its_commands_lazily() -> None:
    assert _loaded_by("farm.cli.main", ["celery", "redis", "rich", "numpy", "psutil"]) == []


def test_the_check_sees_what_is_loaded() -> None:
    assert _loaded_by("click", ["click", "celery"]) == ["click"]
