"""A small encoder-shaped ONNX model and its export facts, for stages that need one quickly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

VOCABULARY, HIDDEN = 2000, 32
DIMS = ["batch_size", "sequence_length"]
FACTS: dict[str, Any] = {
    "inputs": [
        {"name": "input_ids", "dtype": "int64", "dims": DIMS},
        {"name": "attention_mask", "dtype": "int64", "dims": DIMS},
    ],
    "outputs": [
        {"name": "last/hidden", "dtype": "float32", "dims": [*DIMS, HIDDEN]},
        {"name": "pooled", "dtype": "float32", "dims": ["batch_size", HIDDEN]},
    ],
    "vocab_size": VOCABULARY,
    "type_vocab_size": None,
    "pad_token_id": 0,
    "max_positions": 512,
    "opset": 13,
    "revision": None,
}


def write_model(folder: Path, operator: str = "Tanh") -> Path:
    """Write `folder`/model.onnx: an embedding, a matrix product, `operator`, a mask and a mean."""
    rng = np.random.default_rng(0)
    weights = {
        "table": rng.standard_normal((VOCABULARY, HIDDEN)).astype(np.float32),
        "kernel": (rng.standard_normal((HIDDEN, HIDDEN)) / HIDDEN**0.5).astype(np.float32),
        "last_axis": np.array([-1], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),
        helper.make_node("MatMul", ["embedded", "kernel"], ["projected"]),
        helper.make_node(operator, ["projected"], ["active"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last_axis"], ["mask3"]),
        helper.make_node("Mul", ["active", "mask3"], ["last/hidden"]),
        helper.make_node("ReduceMean", ["last/hidden"], ["pooled"], axes=[1], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(port["name"], TensorProto.INT64, DIMS) for port in FACTS["inputs"]],
        [
            helper.make_tensor_value_info(port["name"], TensorProto.FLOAT, port["dims"])
            for port in FACTS["outputs"]
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"
