"""Helpers of the emulator's tests: a root, its tools as processes, small ONNX models."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

LIMIT_S = 60


def call(
    tool: Path, *arguments: str, scenario: Path | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a tool of a root to its end."""
    environment = {"PATH": "/usr/bin:/bin"}
    if scenario is not None:
        environment["AIC_EMULATOR_SCENARIO"] = str(scenario)
    return subprocess.run(
        [tool, *arguments],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def write_scenario(path: Path, *rules: dict[str, Any], **others: Any) -> Path:
    """Write a scenario of these rules to `path`."""
    path.write_text(json.dumps({"rules": list(rules), **others}))
    return path


def record_of(text: str, qid: int) -> dict[str, str]:
    """The fields of one card in qaic-util's text."""
    record = text.split(f"QID {qid}\n", 1)[1].split("\nQID ", 1)[0]
    return dict(line.strip().split(":", 1) for line in record.splitlines() if ":" in line)


def encoder(rows: int = 400, width: int = 32, opset: int = 13) -> ModelProto:
    """A small encoder-like model with an int64 input `input_ids` [batch_size, sequence_length]."""
    rng = np.random.default_rng(7)

    def weight(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array((0.1 * rng.standard_normal(shape)).astype(np.float32), name)

    symbols = ["batch_size", "sequence_length"]
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),
            helper.make_node("MatMul", ["embedded", "first"], ["hidden"]),
            helper.make_node("Tanh", ["hidden"], ["active"]),
            helper.make_node("MatMul", ["active", "second"], ["last_hidden_state"]),
        ],
        "encoder",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, symbols)],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*symbols, width])],
        [weight("table", rows, width), weight("first", width, 4 * width), weight("second", 4 * width, width)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def save(model: ModelProto, path: Path) -> Path:
    """Write the model, and answer its path."""
    onnx.save(model, path)
    return path
