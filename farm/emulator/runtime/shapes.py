"""Static shapes of a whole graph: ONNX Runtime folds the arithmetic on shapes, then ONNX infers what is left.

ONNX's inference alone loses the shapes of exported encoders behind their Slice and Expand nodes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import onnxruntime as ort
from onnx import ModelProto, helper

from .external import is_external

_FATAL_ONLY = 4


def session(
    network: bytes, level: ort.GraphOptimizationLevel, save: Path | None = None
) -> ort.InferenceSession:
    """A session on one thread, silent; with `save`, the graph as optimised at `level` is left there."""
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    if save is not None:
        options.optimized_model_filepath = str(save)
    return ort.InferenceSession(network, options, providers=["CPUExecutionProvider"])


def resolve(skeleton: ModelProto) -> ModelProto:
    """An equivalent of `skeleton` with every shape that can be known; weights on disk become inputs.

    For looking at only. Raises ONNX Runtime's exceptions when it cannot run the model.
    """
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "folded.onnx"
        session(opened(skeleton), ort.GraphOptimizationLevel.ORT_ENABLE_BASIC, saved)
        folded = onnx.load(saved)
    return onnx.shape_inference.infer_shapes(folded, data_prop=True)


def opened(model: ModelProto) -> bytes:
    """The model, serialized, with its weights on disk as inputs."""
    copy = ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    kept = [tensor for tensor in graph.initializer if not is_external(tensor)]
    hollow = [tensor for tensor in graph.initializer if is_external(tensor)]
    graph.input.extend(helper.make_tensor_value_info(x.name, x.data_type, list(x.dims)) for x in hollow)
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return bytes(copy.SerializeToString())
