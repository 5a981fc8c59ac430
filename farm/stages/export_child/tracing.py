"""Traces a model as Optimum does, its weights going to a file of their own while torch writes the graph.

torch's own writer holds the weights four times before the first byte is on disk.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch
from accelerate.utils import find_tied_parameters
from optimum.exporters.onnx import OnnxConfig, export
from optimum.exporters.tasks import TasksManager
from optimum.onnx.transformations_utils import (
    _deduplicate_gather_matmul,
    _find_matching_initializers,
    _get_weights_to_tie,
)

from farm.domain.errors import StageFailed
from farm.stages.export_child.external import INLINE_BYTES, loaded, refer


def trace(model: Any, task: str, library: str, path: Path, opset: int) -> None:
    """Writes the graph of `model` to `path`, its large weights beside it in `weights`. Empties the model.

    The graph is the one `optimum.exporters.onnx.onnx_export_from_model` makes: its steps in its order, but
    for the weights' way, and they leave torch once they are written. Raises StageFailed("input") for a
    model type Optimum cannot describe.
    """
    TasksManager.standardize_model_attributes(model, library_name=library)
    try:
        constructor = TasksManager.get_exporter_config_constructor(
            exporter="onnx", model=model, task=task, library_name=library
        )
    except KeyError as error:
        raise StageFailed(
            "input",
            f"model type {model.config.model_type} has no ONNX export in optimum-onnx; "
            "export it by other means and give its .onnx file",
        ) from error
    config: OnnxConfig = constructor(model.config, int_dtype="int64", float_dtype="fp32")
    with _weights_aside(path.with_name("weights")) as aside:
        export(model, config, path, opset=opset, device="cpu", disable_dynamic_axes_fix=True)
    _attach(path, aside)
    tied = find_tied_parameters(model)
    _empty(model)
    config.fix_dynamic_axes(path, device="cpu", input_shapes={}, dtype="fp32")
    if tied:
        _tie(path, model, tied)


@contextmanager
def _weights_aside(data: Path) -> Iterator[dict[str, onnx.TensorProto]]:
    """While this holds, torch's exporter streams large fp32 weights to `data`, and its graphs get empty ones.

    Yields what belongs in their place: by name, tensors that refer to `data`.
    """
    graph_class: Any = torch._C.Graph
    encode = graph_class._export_onnx
    aside: dict[str, onnx.TensorProto] = {}

    def encode_aside(graph: torch._C.Graph, params: dict[str, torch.Tensor], *rest: Any) -> Any:
        stubs = dict(params)
        with data.open("wb") as file:
            for name, weight in params.items():
                if weight.dtype == torch.float32 and weight.nbytes >= INLINE_BYTES:
                    tensor = onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT, dims=weight.shape)
                    refer(tensor, file, weight.nbytes)
                    file.write(weight.detach().contiguous().numpy().data)
                    aside[name] = tensor
                    stubs[name] = torch.empty(0)
        return encode(graph, stubs, *rest)

    graph_class._export_onnx = encode_aside
    try:
        yield aside
    finally:
        graph_class._export_onnx = encode


def _attach(path: Path, aside: dict[str, onnx.TensorProto]) -> None:
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        if tensor.name in aside:
            tensor.CopyFrom(aside[tensor.name])
    onnx.save(model, path)


def _empty(model: torch.nn.Module) -> None:
    """Frees the weights; the modules and which of their parameters are one stay."""
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = torch.empty(0)
    gc.collect()


def _tie(path: Path, model: torch.nn.Module, tied: list[list[str]]) -> None:
    """Optimum's deduplication of tied weights, with only those in memory."""
    onnx_model = onnx.load(path, load_external_data=False)
    with_operators, to_tie, _ = _get_weights_to_tie(tied, model)
    places = {tensor.name: at for at, tensor in enumerate(onnx_model.graph.initializer)}
    matching = _find_matching_initializers(with_operators, onnx_model, places)
    names = {name for group in matching.values() for one in group for name in one["initializer_name"]}
    with loaded([onnx_model.graph.initializer[places[name]] for name in names], path.parent):
        _deduplicate_gather_matmul(onnx_model, to_tie, matching, places)
    onnx.save(onnx_model, path)
