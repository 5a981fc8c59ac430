"""From an exported ONNX model to what the emulated card runs: static shapes, 16-bit floating point.

The conversion is ONNX Runtime's own (onnxruntime.transformers.float16, inputs and outputs kept), done on a
copy without its large weights, which follow one at a time: memory stays near twice the size of the model.
On a CPU ONNX Runtime computes between casts in 32 bits, so the result has weights and tensors rounded to 16
bits but no 16-bit arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, external_data_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

# Limits of ONNX Runtime's converter: smaller values become the least subnormal, larger ones the largest.
LEAST_POSITIVE = 5.96e-08
LARGEST = 65504.0

#: Serialized models must stay below protobuf's 2 GiB.
INLINE_LIMIT = 2_000_000_000
_LARGE = 4096  # bytes from which a weight is kept out of the conversion
_BLOCK = 1 << 22  # elements converted at once


class UndefinedSymbol(ValueError):
    """A dimension of an input has no value."""


class Source(NamedTuple):
    """A model as it is on disk, and where its external data lie."""

    model: ModelProto
    folder: Path


class Converted(NamedTuple):
    """The model to run and the weights in which a value underflows."""

    model: ModelProto
    underflows: list[str]


def load(path: Path) -> Source:
    """Read the model at `path`, but not its external data. Raises ValueError when it is no ONNX model."""
    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, ValueError):
        raise
    except Exception as error:  # protobuf's DecodeError derives from Exception alone
        raise ValueError(f"{path}: not an ONNX model: {error}") from error
    if not model.graph.node:
        raise ValueError(f"{path}: not an ONNX model: it has no nodes")
    return Source(model, path.parent)


def symbols(model: ModelProto) -> set[str]:
    """The names of the dynamic dimensions of the model's inputs."""
    return {
        dim.dim_param
        for value in model.graph.input
        for dim in value.type.tensor_type.shape.dim
        if dim.dim_param
    }


def _is_large(tensor: TensorProto) -> bool:
    return tensor.data_type == TensorProto.FLOAT and (
        external_data_helper.uses_external_data(tensor) or len(tensor.raw_data) >= _LARGE
    )


def skeleton(source: Source, values: Mapping[str, int], batch_size: int) -> ModelProto:
    """The model at static shapes, its large weights left without data.

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
    graph.input.extend(value for value in origin.input if value.name not in weights)
    graph.output.extend(origin.output)
    for tensor in origin.initializer:
        copy = graph.initializer.add()
        if _is_large(tensor):
            copy.name, copy.data_type = tensor.name, tensor.data_type
            copy.dims.extend(tensor.dims)
            continue
        copy.CopyFrom(tensor)
        if external_data_helper.uses_external_data(copy):
            external_data_helper.load_external_data_for_tensor(copy, str(source.folder))
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


def convert(source: Source, shaped: ModelProto, half: bool, side_file: Path) -> Converted:
    """The model that runs: `shaped`, in 16 bits where `half` is set, with the weights of `source`.

    Weights beyond INLINE_LIMIT in total go to `side_file`, as external data of the model. Consumes `shaped`.
    """
    model = shaped
    large = {
        tensor.name: tuple(tensor.dims) for tensor in source.model.graph.initializer if _is_large(tensor)
    }
    del model.graph.value_info[:]
    if half:
        # The converter looks at the data of every weight: an empty one of the same name stands in.
        for tensor in model.graph.initializer:
            if tensor.name in large:
                tensor.dims[:] = [0]
                tensor.raw_data = b""
        model = convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=True)
        del model.graph.value_info[:]
    total = sum(2 * prod(dims) for dims in large.values()) * (1 if half else 2)
    targets = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name in large}
    underflows = []
    side = side_file.open("wb") if total > INLINE_LIMIT else None
    try:
        for name, values in _weights(source):
            target = targets[name]
            target.dims[:] = large[name]
            if target.data_type == TensorProto.FLOAT16:
                data, underflow = to_half(values)
                if underflow:
                    underflows.append(name)
            else:
                data = values.tobytes()
            if side is None:
                target.raw_data = data
                continue
            offset = side.tell()
            side.write(data)
            target.ClearField("raw_data")
            target.data_location = TensorProto.EXTERNAL
            for key, value in (("location", side_file.name), ("offset", offset), ("length", len(data))):
                target.external_data.add(key=key, value=str(value))
    finally:
        if side is not None:
            side.close()
    return Converted(model, underflows)


def _weights(source: Source) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The large weights, flat, one at a time."""
    for tensor in source.model.graph.initializer:
        if not _is_large(tensor):
            continue
        found = tensor
        if external_data_helper.uses_external_data(tensor):
            found = TensorProto()
            found.CopyFrom(tensor)
            external_data_helper.load_external_data_for_tensor(found, str(source.folder))
        data, size = found.raw_data, 4 * prod(tensor.dims)
        if len(data) != size:
            raise ValueError(f"weight {tensor.name}: {len(data)} bytes instead of {size}")
        yield tensor.name, np.frombuffer(data, "<f4")


def to_half(values: NDArray[np.float32]) -> tuple[bytes, bool]:
    """The values as 16-bit floats, rounded as ONNX Runtime's converter does, and whether one underflows."""
    half = np.empty(values.size, "<f2")
    underflow = False
    for start in range(0, values.size, _BLOCK):
        block = values[start : start + _BLOCK]
        size = np.abs(block)
        tiny = (size > 0) & (size < LEAST_POSITIVE)
        if tiny.any():
            underflow = True
            block = np.where(tiny, np.copysign(np.float32(LEAST_POSITIVE), block), block)
        beyond = (size > LARGEST) & np.isfinite(size)
        if beyond.any():
            block = np.where(beyond, np.copysign(np.float32(LARGEST), block), block)
        half[start : start + _BLOCK] = block
    return half.tobytes(), underflow
