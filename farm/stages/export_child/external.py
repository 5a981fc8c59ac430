"""A model whose large weights lie in a file beside its graph, and how it becomes the form that is kept.

Weights are copied a piece at a time, never held.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import onnx
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

#: Smaller tensors stay in the graph: also the mask's fp32 minimum, so that clipping it leaves the data alone.
INLINE_BYTES = 1024
#: Where tensors start in a data file, so that they can be used where they are mapped.
_ALIGNMENT = 64
_CHUNK = 16 * 1024 * 1024
#: Keys of length-delimited fields, `number << 3 | 2` (onnx.proto3): ModelProto.graph, GraphProto.initializer,
#: TensorProto.raw_data.
_GRAPH, _INITIALIZER, _RAW_DATA = b"\x3a", b"\x2a", b"\x4a"


def refer(tensor: onnx.TensorProto, file: BinaryIO, length: int) -> None:
    """Makes `tensor` refer to `length` bytes about to be written to `file`, where tensors may start."""
    file.write(b"\0" * (-file.tell() % _ALIGNMENT))
    tensor.ClearField("raw_data")
    tensor.ClearField("external_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", Path(file.name).name), ("offset", file.tell()), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


@contextmanager
def loaded(tensors: Sequence[onnx.TensorProto], folder: Path) -> Iterator[None]:
    """While this holds, the values of `tensors` are in them; then they refer to their file again."""
    references = [(tensor, list(tensor.external_data)) for tensor in tensors if uses_external_data(tensor)]
    for tensor, _ in references:
        load_external_data_for_tensor(tensor, str(folder))
    yield
    for tensor, reference in references:
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.extend(reference)


def settle(traced: Path, out: Path, single_file_bytes: int) -> None:
    """Writes the model at `traced` to `out`: one file of at most `single_file_bytes`, else `<out>_data` too.

    Data that no initializer refers to is left behind.
    """
    model = onnx.load(traced, load_external_data=False)
    tensors = [_Initializer(tensor) for tensor in model.graph.initializer]
    graph, rest = onnx.GraphProto(), onnx.ModelProto()
    graph.CopyFrom(model.graph)
    graph.ClearField("initializer")
    rest.CopyFrom(model)
    rest.ClearField("graph")
    nodes, frame = graph.SerializeToString(), rest.SerializeToString()
    length = len(nodes) + sum(len(tensor.field) + tensor.data_length for tensor in tensors)
    if len(frame) + len(_field(_GRAPH, length)) + length > single_file_bytes:
        _two_files(model, traced, out)
        return
    with out.open("wb") as file:
        file.write(frame + _field(_GRAPH, length) + nodes)
        for tensor in tensors:
            file.write(tensor.field)
            tensor.copy_data(traced.parent, file)


def _two_files(model: onnx.ModelProto, traced: Path, out: Path) -> None:
    with out.with_name(out.name + "_data").open("wb") as file:
        for tensor in model.graph.initializer:
            if uses_external_data(tensor):
                source = _Initializer(tensor)
                refer(tensor, file, source.data_length)
                source.copy_data(traced.parent, file)
    out.write_bytes(model.SerializeToString())


class _Initializer:
    """An initializer's field in a graph: `field` is all of it but for external data, which end it."""

    def __init__(self, tensor: onnx.TensorProto) -> None:
        stub = onnx.TensorProto()
        stub.CopyFrom(tensor)
        stub.ClearField("external_data")
        stub.ClearField("data_location")
        message = stub.SerializeToString()
        self.data_length = 0
        if uses_external_data(tensor):
            reference = {entry.key: entry.value for entry in tensor.external_data}
            self._location, self._offset = reference["location"], int(reference["offset"])
            self.data_length = int(reference["length"])
            message += _field(_RAW_DATA, self.data_length)
        self.field = _field(_INITIALIZER, len(message) + self.data_length) + message

    def copy_data(self, folder: Path, to: BinaryIO) -> None:
        """Appends the external data, if any, to the file `to`."""
        if self.data_length == 0:
            return
        left = self.data_length
        with (folder / self._location).open("rb") as file:
            file.seek(self._offset)
            while left:
                piece = file.read(min(left, _CHUNK))
                if not piece:
                    raise EOFError(f"{file.name} ends within a tensor")
                to.write(piece)
                left -= len(piece)


def _field(key: bytes, length: int) -> bytes:
    """The start of a length-delimited field: its key and its length as a varint."""
    varint = bytearray()
    while length > 0x7F:
        varint.append(length & 0x7F | 0x80)
        length >>= 7
    varint.append(length)
    return key + bytes(varint)
