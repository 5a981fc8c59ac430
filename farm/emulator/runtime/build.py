"""From a model and a card configuration to the segments of a QPC, judged by ONNX Runtime on the way."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort

from . import convert, features, qpc, shapes
from .weights import Constants

#: In the order of the file: where the constants begin does not depend on what follows them.
_SEGMENTS = (qpc.CONSTANTS, qpc.DESCRIPTION, qpc.NETWORK)


class Request(NamedTuple):
    """What the compiler was asked for. `batch_size` fills an unnamed leading dimension."""

    symbols: Mapping[str, int]
    batch_size: int
    stats_batch_size: int
    half: bool
    cores: int
    flags: Mapping[str, Any]
    sdk: str


class Built(NamedTuple):
    """The segments of the program; its constants are read, and rounded, when they are written."""

    segments: dict[str, bytes | qpc.Stream]
    constants: Constants


class Rejected(Exception):
    """The model cannot be compiled; the message is the compiler's."""


class Unsupported(Rejected):
    """An operator the card does not know."""

    def __init__(self, model: onnx.ModelProto, operator: str, reason: str) -> None:
        opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
        node = f"[Operator-'{operator}', opset_version-{opset}, ir_version-{model.ir_version}]"
        super().__init__(
            "QAIC_ERROR:\n"
            f"Error message:  {node} : {reason}\n"
            "QAICException:Unable to AddNodesToGraphFromModel"
        )


def build(source: convert.Source, request: Request, fallback_name: str) -> Built:
    """Compile `source`. Raises Rejected, or OSError where files cannot be read."""
    try:
        shaped = convert.skeleton(source, request.symbols, request.batch_size)
    except convert.UndefinedSymbol as error:
        raise Rejected(str(error)) from error
    except (onnx.checker.ValidationError, ValueError) as error:
        raise _malformed(error) from error
    try:
        resolved = shapes.resolve(shaped)
    except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
        raise _unsupported(source.model, error) from error
    inputs, outputs = _bindings(shaped.graph.input), _bindings(resolved.graph.output)
    found = features.features(shaped, resolved, request.stats_batch_size, 2 if request.half else 4)
    try:
        model, constants = convert.convert(source, shaped, request.half, qpc.data_start(_SEGMENTS))
    except (onnx.checker.ValidationError, ValueError) as error:
        raise _malformed(error) from error
    try:
        session = shapes.session(shapes.opened(model), ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    except Exception as error:  # as above
        raise _unsupported(source.model, error) from error
    if any(entry["dims"] is None for entry in outputs):
        _complete(outputs, inputs, session, constants)
        found["output_bytes_per_sample"] = (
            sum(int(np.prod(entry["dims"])) * np.dtype(entry["dtype"]).itemsize for entry in outputs)
            // request.stats_batch_size
        )
    description = {
        "name": source.model.graph.name or fallback_name,
        "inputs": inputs,
        "outputs": outputs,
        "cores": request.cores,
        "batch_size": request.stats_batch_size,
        "features": found,
        "flags": dict(request.flags),
        "sdk": request.sdk,
    }
    parts = (constants, json.dumps(description, indent=1).encode(), model.SerializeToString())
    return Built(dict(zip(_SEGMENTS, parts, strict=True)), constants)


def write(built: Built, directory: Path, part: float = 1.0) -> None:
    """Write programqpc.bin into `directory`; `part` below 1 leaves its end out, as a full disk would."""
    path = directory / qpc.PROGRAM_FILE
    qpc.write(path, built.segments)
    os.truncate(path, int(path.stat().st_size * part))


def _bindings(values: Any) -> list[dict[str, Any]]:
    return [
        {
            "name": value.name,
            "dtype": features.dtype_name(value.type.tensor_type.elem_type),
            "dims": features.shape(value),
        }
        for value in values
    ]


def _malformed(error: Exception) -> Rejected:
    return Rejected(f"QAIC_ERROR:\nError message:  {_one_line(error)}")


def _unsupported(origin: onnx.ModelProto, error: Exception) -> Unsupported:
    reason = _one_line(error)
    words = set(re.findall(r"\w+", reason))
    named = next((node.op_type for node in origin.graph.node if node.op_type in words), "unknown")
    return Unsupported(origin, named, reason)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).removeprefix("[ONNXRuntimeError] : ").split())


def _complete(
    outputs: list[dict[str, Any]],
    inputs: list[dict[str, Any]],
    session: ort.InferenceSession,
    constants: Constants,
) -> None:
    """Fill the output shapes that could not be inferred by running the model once on zeros."""
    feeds = {entry["name"]: np.zeros(entry["dims"], entry["dtype"]) for entry in inputs}
    found = session.run([entry["name"] for entry in outputs], {**feeds, **constants.arrays()})
    for entry, value in zip(outputs, found, strict=True):
        entry["dims"] = list(value.shape)
