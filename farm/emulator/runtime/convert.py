"""From an exported ONNX model to what the emulated card runs: static shapes, 16-bit floating point.

The conversion is ONNX Runtime's own (onnxruntime.transformers.float16, inputs and outputs kept), done on the
graph without its large weights, which are rounded in the same way while they are written (weights.py): memory
does not grow with them. Only what is no raw data of an initializer of the graph is converted in memory.
On a CPU ONNX Runtime computes between casts in 32 bits, so the result has weights and tensors rounded to 16
bits but no 16-bit arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from onnx import ModelProto, TensorProto
from onnxruntime.transformers.float16 import convert_float_to_float16

from . import external, qpc, wire
from .weights import Constants, Weight

_ALIGNMENT = 64  # bytes: where a weight begins in the QPC


class UndefinedSymbol(ValueError):
    """A dimension of an input has no value."""


class Source(NamedTuple):
    """A model without its large weights, and the folder in which they lie."""

    model: ModelProto
    folder: Path


class Converted(NamedTuple):
    """The model to run, without its large weights, and those."""

    model: ModelProto
    constants: Constants


def load(path: Path) -> Source:
    """Read the model at `path`. Raises OSError, and ValueError when it is no ONNX model."""
    try:
        model = wire.parse(path)
        if not model.graph.node:
            raise ValueError("it has no nodes")
    except ValueError as error:
        raise ValueError(f"{path}: not an ONNX model: {error}") from error
    return Source(model, path.parent)


def symbols(model: ModelProto) -> set[str]:
    """The names of the dynamic dimensions of the model's inputs."""
    return {
        dim.dim_param
        for value in model.graph.input
        for dim in value.type.tensor_type.shape.dim
        if dim.dim_param
    }


def skeleton(source: Source, values: Mapping[str, int], batch_size: int) -> ModelProto:
    """The model at static shapes, its large weights left on disk.

    `values` gives the dynamic dimensions; a leading one that is not named there is the batch. Raises
    UndefinedSymbol for any other.
    """
    model = ModelProto()
    for field, content in source.model.ListFields():
        if field.name != "graph":
            _assign(model, field.name, content)
    graph, origin = model.graph, source.model.graph
    graph.name = origin.name
    weights = {tensor.name for tensor in origin.initializer}
    graph.node.extend(origin.node)
    external.fetch_attributes(graph, source.folder)
    graph.input.extend(value for value in origin.input if value.name not in weights)
    graph.output.extend(origin.output)
    for tensor in origin.initializer:
        copy = graph.initializer.add()
        copy.CopyFrom(tensor)
        if external.is_external(copy) and not external.is_large(copy):
            external.fetch(copy, source.folder)
    for value in graph.input:
        for position, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.HasField("dim_value"):
                continue
            if dim.dim_param in values:
                dim.dim_value = values[dim.dim_param]
            elif position == 0:
                dim.dim_value = batch_size
            else:
                raise UndefinedSymbol(
                    f"Dimension {dim.dim_param or position} of input {value.name} has no value: "
                    f"use -onnx-define-symbol={dim.dim_param},<value>"
                )
    for value in graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if not dim.HasField("dim_value"):
                dim.Clear()
    return model


def _assign(model: ModelProto, name: str, content: object) -> None:
    if isinstance(content, (int, str)):
        setattr(model, name, content)
    else:
        getattr(model, name).extend(content)


def convert(source: Source, shaped: ModelProto, half: bool, start: int) -> Converted:
    """The model that runs: `shaped`, in 16 bits where `half` is set.

    Its large weights are external data in a QPC whose constants begin at byte `start`. Consumes `shaped`.
    Raises ValueError for a weight that is not all there.
    """
    model = shaped
    large = [tensor for tensor in source.model.graph.initializer if external.is_large(tensor)]
    names = {tensor.name for tensor in large}
    del model.graph.value_info[:]
    if half:
        # The converter looks at the data of every weight: an empty one of the same name stands in.
        for tensor in model.graph.initializer:
            if tensor.name in names:
                tensor.ClearField("data_location")
                tensor.dims[:] = [0]
                tensor.raw_data = b""
        model = convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=True)
        del model.graph.value_info[:]
    targets = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name in names}
    weights = [
        Weight(
            tensor.name,
            tuple(tensor.dims),
            external.region(tensor, source.folder),
            "<f2" if targets[tensor.name].data_type == TensorProto.FLOAT16 else "<f4",
        )
        for tensor in large
    ]
    constants = Constants(weights, _ALIGNMENT, start)
    for weight in weights:
        target = targets[weight.name]
        target.dims[:] = weight.dims
        external.refer(target, qpc.PROGRAM_FILE, start + constants.places[weight.name], weight.size)
    return Converted(model, constants)
