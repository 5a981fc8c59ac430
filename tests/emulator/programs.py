"""Helpers of the runtime's tests: a compiled two-input, two-output program, and its input files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tests.emulator.emulated import LIMIT_S, call, save

BATCH, LENGTH, ROWS = 3, 8, 50
MACHINE_LIB = "dev/lib"
#: What a child that uses the Python modules begins with; its first argument is a programqpc.bin or a model.
PRELUDE = """
import json, sys, threading, time
import numpy as np
import qaic, qaicrt
def inputs(seed):
    rng = np.random.default_rng(seed)
    return {"input_ids": rng.integers(0, 50, (3, 8)), "attention_mask": rng.integers(0, 2, (3, 8))}
def free():
    return qaicrt.Util().getResourceInfo(0)[1].nspFree
path = sys.argv[1]
"""


def two_outputs(width: int = 16) -> ModelProto:
    """`input_ids`, `attention_mask` -> `tokens` [B, S, width] and `pool/mean` [B, width]."""
    rng = np.random.default_rng(3)
    table = rng.standard_normal((ROWS, width)).astype(np.float32)
    weight = (rng.standard_normal((width, width)) / width).astype(np.float32)
    symbols = ["batch_size", "sequence_length"]
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
            helper.make_node("Mul", ["embedded", "column"], ["masked"]),
            helper.make_node("MatMul", ["masked", "weight"], ["tokens"]),
            helper.make_node("ReduceMean", ["tokens"], ["pool/mean"], axes=[1], keepdims=0),
        ],
        "two-outputs",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, symbols)
            for name in ("input_ids", "attention_mask")
        ],
        [
            helper.make_tensor_value_info("tokens", TensorProto.FLOAT, [*symbols, width]),
            helper.make_tensor_value_info("pool/mean", TensorProto.FLOAT, ["batch_size", width]),
        ],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(np.array([-1], dtype=np.int64), "last"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def compile_to(root: Path, directory: Path, model: ModelProto, cores: int = 2) -> Path:
    """Compile `model` at BATCH x LENGTH with the root's own compiler; the folder of programqpc.bin."""
    source = save(model, directory.with_suffix(".onnx"))
    compiled = call(
        root / "exec" / "qaic-exec",
        f"-m={source}",
        f"-onnx-define-symbol=batch_size,{BATCH}",
        f"-onnx-define-symbol=sequence_length,{LENGTH}",
        "-aic-hw",
        "-aic-hw-version=2.0",
        f"-aic-num-cores={cores}",
        f"-stats-batchsize={BATCH}",
        "-convert-to-fp16",
        "-compile-only",
        f"-aic-binary-dir={directory}",
    )
    assert compiled.returncode == 0, compiled.stderr
    return directory


def element(seed: int) -> dict[str, NDArray[np.int64]]:
    """One inference's inputs."""
    rng = np.random.default_rng(seed)
    return {
        "input_ids": rng.integers(0, ROWS, (BATCH, LENGTH)),
        "attention_mask": rng.integers(0, 2, (BATCH, LENGTH)),
    }


def write_inputs(folder: Path, count: int) -> Path:
    """Raw files of `count` inferences and the batch JSON that lists them; the JSON's path."""
    folder.mkdir(exist_ok=True)
    elements = []
    for number in range(count):
        entries = []
        for name, array in element(number).items():
            file = folder / f"{name}_{number}.raw"
            array.tofile(file)
            entries.append(
                {
                    "path": file.name,
                    "io-direction": "in",
                    "elem-size": 8,
                    "map-to": name,
                    "dims": list(array.shape),
                }
            )
        elements.append(entries)
    batch = folder / "aic_batch_io.json"
    batch.write_text(json.dumps({"IO-files": elements}))
    return batch


def reference(model: ModelProto, inputs: dict[str, NDArray[np.int64]]) -> dict[str, NDArray[np.float32]]:
    """What the fp32 model computes, by the reference evaluator."""
    from onnx.reference import ReferenceEvaluator

    names = [output.name for output in model.graph.output]
    found: Any = ReferenceEvaluator(onnx.load_model_from_string(model.SerializeToString())).run(names, inputs)
    return dict(zip(names, found, strict=True))


def child(root: Path, script: str, *arguments: str, scenario: Path | None = None) -> Any:
    """Run a script with the root's Python modules importable; the JSON document of its last line."""
    lib = next((root / MACHINE_LIB).iterdir())
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(lib)}
    if scenario is not None:
        environment["AIC_EMULATOR_SCENARIO"] = str(scenario)
    ran = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])
