"""The API child: its syntax, its arithmetic, and its refusal of an SDK made for another Python.

Its runs are tested in tests/stages/test_run.py on an emulated card.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from farm.sdk import api_child
from farm.sdk.api_child import Refused, file_name, in_threads, microseconds, samples_per_second

SOURCE = Path(api_child.__file__)


def test_it_is_python_3_8_with_numpy_alone() -> None:
    module = ast.parse(SOURCE.read_text(), feature_version=(3, 8))
    imported = {
        (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) else alias.name.split(".")[0]
        for node in ast.walk(module)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    assert imported - set(sys.stdlib_module_names) - {"numpy", "qaic", "qaicrt"} == set()


@pytest.mark.parametrize("batch", [2, 8])
def test_both_conventions_of_the_rate_come_out_as_samples(batch: int) -> None:
    completed, elapsed = 1000, 2.0
    executions = completed / elapsed
    for rate in (executions * 0.95, executions * batch * 0.95):
        assert samples_per_second(rate, completed, elapsed, batch) == pytest.approx(executions * batch * 0.95)


def test_a_rate_that_fits_neither_is_refused() -> None:
    for rate in (0.0, 750.0, 1e6):
        with pytest.raises(Refused, match="fits neither"):
            samples_per_second(rate, 1000, 2.0, 2)


@pytest.mark.parametrize("told", [20.1, 20.1e3, 20.1e6])
def test_the_duration_in_whatever_unit(told: float) -> None:
    assert microseconds(told, 20.2) == 20_100_000
    assert microseconds(7.0, 20.2) == 20_200_000


def test_output_names() -> None:
    assert file_name("a/b") == "a_b-activation-0-inf-0.bin"


def test_an_error_in_a_thread_is_raised() -> None:
    done = []

    def work(number: int) -> None:
        if number == 1:
            raise Refused("no")
        done.append(number)

    with pytest.raises(Refused):
        in_threads(3, work)
    assert sorted(done) == [0, 2]


def test_an_sdk_for_another_python_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "qaic.py").write_text("")
    (tmp_path / "qaicrt.cpython-27-x86_64-linux-gnu.so").write_text("")
    np.zeros((1, 4), np.int64).tofile(tmp_path / "ids.raw")
    request = {"library_dir": str(tmp_path), "inputs": []}
    (tmp_path / "request.json").write_text(json.dumps(request))
    argv = [sys.executable, str(SOURCE), str(tmp_path / "request.json"), str(tmp_path), str(tmp_path)]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert "cannot be imported by Python" in result.stderr
    assert not (tmp_path / "answer.json").exists()
