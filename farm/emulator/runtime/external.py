"""External data of an ONNX tensor: which bytes of which file beside the model are its values."""

from __future__ import annotations

from math import prod
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from onnx import GraphProto, TensorProto, helper

#: Bytes from which a float weight stays on disk.
LARGE = 4096
FLOAT_BYTES = 4


class Region(NamedTuple):
    """`size` bytes of `file` from `offset`."""

    file: Path
    offset: int
    size: int


def is_external(tensor: TensorProto) -> bool:
    """Whether the tensor's data lie elsewhere."""
    return tensor.data_location == TensorProto.EXTERNAL


def is_large(tensor: TensorProto) -> bool:
    """Whether the tensor is a float weight that stays on disk while a model is compiled."""
    return (
        is_external(tensor)
        and tensor.data_type == TensorProto.FLOAT
        and FLOAT_BYTES * prod(tensor.dims) >= LARGE
    )


def refer(tensor: TensorProto, location: str, offset: int, size: int) -> None:
    """Make the tensor's data those `size` bytes of the file `location`."""
    tensor.ClearField("raw_data")
    del tensor.external_data[:]
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", size)):
        tensor.external_data.add(key=key, value=str(value))


def fetch(tensor: TensorProto, folder: Path) -> None:
    """Give an external tensor its data. Raises OSError, and ValueError where they are not all there."""
    file, offset, size = region(tensor, folder)
    with file.open("rb") as data:
        data.seek(offset)
        tensor.raw_data = data.read(size)
    tensor.ClearField("data_location")
    del tensor.external_data[:]


def fetch_attributes(graph: GraphProto, folder: Path) -> None:
    """Give every external tensor of the graph's nodes its data, those of inner graphs included.

    Raises as fetch does.
    """
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        inner = [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
        tensors = [*attribute.tensors, *([attribute.t] if attribute.HasField("t") else [])]
        for tensor in [*tensors, *(tensor for each in inner for tensor in each.initializer)]:
            if is_external(tensor):
                fetch(tensor, folder)
        for each in inner:
            fetch_attributes(each, folder)


def region(tensor: TensorProto, folder: Path) -> Region:
    """Where an external tensor's bytes lie. Raises ValueError where they are not all there."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location, offset = entries.get("location", ""), int(entries.get("offset", 0))
    pure = PurePosixPath(location)
    if not location or pure.is_absolute() or ".." in pure.parts:
        raise ValueError(f"weight {tensor.name} points outside the model's folder: {location!r}")
    whole = prod(tensor.dims) * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    size = int(entries.get("length", whole))
    try:
        there = (folder / location).stat().st_size - offset
    except OSError as error:
        raise ValueError(f"weight {tensor.name}: {location}: {error.strerror}") from error
    if offset < 0 or not 0 <= size <= there:
        raise ValueError(f"weight {tensor.name}: {location} has {max(there, 0)} bytes of its {size}")
    if tensor.data_type == TensorProto.FLOAT and size != whole:
        raise ValueError(f"weight {tensor.name}: {size} bytes instead of {whole}")
    return Region(folder / location, offset, size)
