"""What the tools of a root hold in memory, against the size of the network's weights."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from farm.emulator import write_root
from tests.emulator.emulated import save

MB = 2**20
WIDTH, LAYERS = 2048, 3
WEIGHTS = 4 * WIDTH * WIDTH * LAYERS  # 48 MB


class Memory(NamedTuple):
    """Bytes of anonymous memory: the most, and the last seen before the process ended."""

    peak: int
    last: int


def follow(argv: list[str], cwd: Path) -> Memory:
    """Run to the end, looking at the process's memory all the while."""
    process = subprocess.Popen(argv, cwd=cwd, stdout=subprocess.DEVNULL, env={"PATH": "/usr/bin:/bin"})
    seen = [0]
    while True:
        try:
            process.wait(timeout=0.005)
            break
        except subprocess.TimeoutExpired:
            status = Path(f"/proc/{process.pid}/status").read_text()
            seen += [1024 * int(kb) for kb in re.findall(r"^RssAnon:\s+(\d+)", status, re.M)]
    assert process.returncode == 0
    return Memory(max(seen), seen[-1])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("memory") / "root"
    write_root(directory, cards=1, timing="modelled")
    return directory


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    weight = np.random.default_rng(0).standard_normal((WIDTH, WIDTH)).astype(np.float32) / WIDTH
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", [f"x{layer}", f"w{layer}"], [f"x{layer + 1}"])
            for layer in range(LAYERS)
        ],
        "wide",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, [1, WIDTH])],
        [helper.make_tensor_value_info(f"x{LAYERS}", TensorProto.FLOAT, [1, WIDTH])],
        [numpy_helper.from_array(weight + layer, f"w{layer}") for layer in range(LAYERS)],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return save(made, tmp_path_factory.mktemp("wide") / "model.onnx")


def test_a_compile_streams_the_weights_and_a_modelled_run_lets_go_of_them(
    root: Path, model: Path, tmp_path: Path
) -> None:
    qpc = tmp_path / "qpc"
    compiler = [str(root / "exec/qaic-compile"), f"-m={model}", "-aic-hw", "-aic-num-cores=1"]
    compiled = follow([*compiler, "-convert-to-fp16", f"-aic-binary-dir={qpc}"], tmp_path)
    assert (qpc / "programqpc.bin").stat().st_size > WEIGHTS / 2
    assert compiled.peak < 80 * MB + 0.3 * WEIGHTS
    run = follow([str(root / "exec/qaic-runner"), "-t", str(qpc), "--time", "2"], tmp_path)
    assert 1.0 * WEIGHTS < run.peak < 40 * MB + 1.7 * WEIGHTS
    assert run.last < run.peak - 0.8 * WEIGHTS
