"""From a request to `model.onnx`: load the model, trace it, check the graph against torch."""

from __future__ import annotations

import ctypes
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.onnx import symbolic_opset14
from torch.onnx.errors import UnsupportedOperatorError
from torch.onnx.utils import register_custom_op_symbolic

from farm.domain.errors import StageFailed
from farm.stages.export_child.external import settle
from farm.stages.export_child.loading import Loaded, load
from farm.stages.export_child.tracing import trace

#: torch registers scaled_dot_product_attention from opset 14 on; its decomposition is valid in 13 too,
#: the opset the SDK's encoder sample asks for.
register_custom_op_symbolic(
    "aten::scaled_dot_product_attention", symbolic_opset14.scaled_dot_product_attention, 13
)

#: Largest difference between torch and the exported graph, relative to the output's largest value.
_TOLERANCE = 1e-3
_CHECK_BATCH, _CHECK_LENGTH = 2, 16


class OpsetTooLow(Exception):
    """The model uses an operator that opset lacks; `opset` has it."""

    def __init__(self, message: str, opset: int) -> None:
        super().__init__(message)
        self.opset = opset


def export(request: dict[str, Any]) -> dict[str, Any]:
    """Writes `<out>/model.onnx` and returns what only the loaded model could tell."""
    _reset_peak()
    torch.set_num_threads(request["threads"])
    out = Path(request["out"])
    loaded = load(request)
    facts = dict(loaded.facts)
    inputs, expected = _expected(loaded)
    with tempfile.TemporaryDirectory(dir=out, prefix="tracing-") as folder:
        traced = Path(folder) / "model.onnx"
        _trace(loaded, traced, request["opset"])
        loaded.model = None
        release_memory()
        settle(traced, out / "model.onnx", request["single_file_bytes"])
    _check(out / "model.onnx", inputs, expected)
    facts["peak_rss_bytes"] = memory("VmHWM")
    return facts


def _trace(loaded: Loaded, path: Path, opset: int) -> None:
    try:
        trace(loaded.model, loaded.task, loaded.library, path, opset)
    except UnsupportedOperatorError as error:
        needed = re.search(r"added in version (\d+)", str(error))
        if needed is None:
            raise
        operator = str(error).split("'")[1] if "'" in str(error) else "an operator"
        raise OpsetTooLow(
            f"opset {opset} lacks {operator}, which this model uses; ask for opset {needed[1]} or higher",
            int(needed[1]),
        ) from error


def _expected(loaded: Loaded) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Small inputs and what torch makes of them. Shorter second row: the mask must matter as in torch."""
    high = loaded.facts["vocab_size"]
    rng = np.random.RandomState(0)
    ids = rng.randint(0, high, (_CHECK_BATCH, _CHECK_LENGTH)).astype(np.int64)
    mask = np.ones_like(ids)
    mask[1, _CHECK_LENGTH // 2 :] = 0
    pad = loaded.facts["pad_token_id"]
    if pad is not None:
        ids[mask == 0] = pad
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    tensors = {name: torch.from_numpy(inputs[name]) for name in ("input_ids", "attention_mask")}
    loaded.model.eval()
    with torch.no_grad():
        made = loaded.model(tensors) if loaded.library == "sentence_transformers" else loaded.model(**tensors)
    outputs = {name: value.numpy() for name, value in made.items() if isinstance(value, torch.Tensor)}
    return inputs, {name: value for name, value in outputs.items() if value.dtype == np.float32}


def _check(model: Path, inputs: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    fed = {port.name: inputs[port.name] for port in session.get_inputs() if port.name in inputs}
    names = [port.name for port in session.get_outputs()]
    for name, value in zip(names, session.run(names, fed), strict=True):
        if name not in expected:
            raise StageFailed("input", f"the exported graph has an output {name} that the model has not")
        right = expected[name]
        if value.shape != right.shape:
            raise StageFailed(
                "input", f"output {name} has shape {value.shape} exported, {right.shape} in torch"
            )
        difference = float(np.abs(value - right).max())
        if not difference <= _TOLERANCE * max(1.0, float(np.abs(right).max())):
            raise StageFailed(
                "input", f"output {name} of the exported graph differs from torch by {difference:.3g}"
            )


def memory(field: str) -> int:
    """Bytes of a `/proc/self/status` field: VmRSS now, VmHWM the most since the last reset."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def _reset_peak() -> None:
    # Where the kernel forbids it the figure is the process's own peak: too high, never too low.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def release_memory() -> None:
    """Gives freed memory back to the system, which glibc keeps otherwise."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
