"""Reads ONNX files in their protobuf wire format, without loading them and without the onnx package.

Only what the farm asks of a graph is read: its inputs and outputs, its opset, where each float
tensor's bytes lie in the file, and which table an input indexes. The file is mapped, so a tensor
costs memory only while it is looked at. Field numbers: onnx.proto3 of the ONNX project.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from farm.domain.errors import StageFailed

#: TensorProto.DataType numbers and the numpy dtype of their raw bytes.
DTYPES: dict[int, str] = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    16: "bfloat16",
}
_FLOATS = {"float32": 4, "float16": 2, "float64": 8, "bfloat16": 2}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
#: Deeper nesting than any real graph has: stops a hostile file before Python's recursion limit does.
_MAX_DEPTH = 32


@dataclass(frozen=True)
class Field:
    """One field of a message: its number, wire type, integer value (varints) and byte span in the file."""

    number: int
    wire: int
    value: int
    start: int
    end: int


@dataclass(frozen=True)
class FloatRegion:
    """`count` little-endian floats of one tensor, from byte `offset` of `file` (None: the model file)."""

    tensor: str
    dtype: str
    offset: int
    count: int
    file: str | None = None


@dataclass(frozen=True)
class Port:
    """A graph input or output: dims are symbols or fixed sizes."""

    name: str
    dtype: str
    dims: tuple[str | int, ...]


@dataclass
class Graph:
    """What the farm asks of an ONNX model. `tables` maps an input to the rows of the table it indexes."""

    opset: int = 0
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    floats: list[FloatRegion] = field(default_factory=list)
    external: set[str] = field(default_factory=set)
    parameters: int = 0
    tables: dict[str, int] = field(default_factory=dict)


@dataclass
class _Tensor:
    name: str = ""
    dtype: str = ""
    dims: list[int] = field(default_factory=list)
    external: dict[str, str] = field(default_factory=dict)
    is_external: bool = False
    regions: list[FloatRegion] = field(default_factory=list)

    @property
    def elements(self) -> int:
        total = 1
        for size in self.dims:
            total *= size
        return total


def read_graph(path: Path) -> Graph:
    """The graph facts of the ONNX file at `path`.

    Raises StageFailed("input") when the file is not an ONNX model this reader understands.
    """
    try:
        with _mapped(path) as data:
            return _Reader(data).read()
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise StageFailed(
            "input", f"{path.name}: not a readable ONNX file ({error}); export it again"
        ) from error


@contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    if path.stat().st_size == 0:
        raise ValueError("the file is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = memoryview(mapped)
        try:
            yield view
        finally:
            view.release()


class _Reader:
    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._graph = Graph()
        self._rows: dict[str, int] = {}
        self._gathers: list[tuple[str, str]] = []

    def read(self) -> Graph:
        graphs = 0
        for item in self._fields(0, len(self._data)):
            if item.number == 7:
                graphs += 1
                self._read_graph(item, 0, top=True)
            elif item.number == 8:
                self._read_opset(item)
            elif item.number == 25:
                for node in self._sub(item, 7):
                    self._read_node(node, 0)
        if graphs == 0:
            raise ValueError("it holds no graph")
        self._graph.inputs = [port for port in self._graph.inputs if port.name not in self._rows]
        names = {port.name for port in self._graph.inputs}
        for table, indices in self._gathers:
            if table in self._rows and indices in names:
                self._graph.tables.setdefault(indices, self._rows[table])
        return self._graph

    # --- the wire format -----------------------------------------------------------------------

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while at < end:
            byte = self._data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, at
            shift += 7
            if shift > 63:
                break
        raise ValueError(f"bad number at byte {at}")

    def _fields(self, start: int, end: int) -> Iterator[Field]:
        at = start
        while at < end:
            key, at = self._varint(at, end)
            number, wire = key >> 3, key & 7
            value = 0
            first = at
            if wire == _VARINT:
                value, at = self._varint(at, end)
            elif wire == _FIXED64:
                at += 8
            elif wire == _FIXED32:
                at += 4
            elif wire == _BYTES:
                length, first = self._varint(at, end)
                at = first + length
            else:
                raise ValueError(f"unknown wire type {wire} at byte {first}")
            if at > end:
                raise ValueError(f"a field ends beyond its message at byte {first}: the file is cut off")
            yield Field(number, wire, value, first, at)

    def _sub(self, parent: Field, number: int) -> Iterator[Field]:
        return (item for item in self._fields(parent.start, parent.end) if item.number == number)

    def _text(self, item: Field) -> str:
        return str(self._data[item.start : item.end], "utf-8")

    # --- ONNX messages ---------------------------------------------------------------------------

    def _read_opset(self, item: Field) -> None:
        domain, version = "", 0
        for part in self._fields(item.start, item.end):
            if part.number == 1:
                domain = self._text(part)
            elif part.number == 2:
                version = part.value
        if domain in ("", "ai.onnx"):
            self._graph.opset = version

    def _read_graph(self, item: Field, depth: int, top: bool = False) -> None:
        if depth > _MAX_DEPTH:
            raise ValueError(f"subgraphs nested deeper than {_MAX_DEPTH}")
        for part in self._fields(item.start, item.end):
            if part.number == 1:
                self._read_node(part, depth)
            elif part.number == 5:
                tensor = self._read_tensor(part)
                if tensor.dtype in _FLOATS:
                    self._graph.parameters += tensor.elements
                if top and tensor.dims:
                    self._rows[tensor.name] = tensor.dims[0]
                elif top:
                    self._rows[tensor.name] = 1
            elif part.number == 15:
                self._read_sparse(part)
            elif top and part.number == 11:
                self._graph.inputs.append(self._read_port(part))
            elif top and part.number == 12:
                self._graph.outputs.append(self._read_port(part))

    def _read_node(self, item: Field, depth: int) -> None:
        inputs: list[str] = []
        attributes: list[Field] = []
        name = operator = ""
        for part in self._fields(item.start, item.end):
            if part.number == 1:
                inputs.append(self._text(part))
            elif part.number == 3:
                name = self._text(part)
            elif part.number == 4:
                operator = self._text(part)
            elif part.number == 5:
                attributes.append(part)
        if operator == "Gather" and len(inputs) == 2 and depth == 0:
            self._gathers.append((inputs[0], inputs[1]))
        for attribute in attributes:
            self._read_attribute(attribute, name, operator == "Constant", depth)

    def _read_attribute(self, item: Field, node: str, constant: bool, depth: int) -> None:
        for part in self._fields(item.start, item.end):
            if part.number in (5, 10):
                self._read_tensor(part, fallback=node)
            elif part.number in (6, 11):
                self._read_graph(part, depth + 1)
            elif part.number in (22, 23):
                self._read_sparse(part)
            elif constant and part.number in (2, 7):
                self._add_floats(self._graph.floats, part, node, "float32")

    def _read_sparse(self, item: Field) -> None:
        for values in self._sub(item, 1):
            self._read_tensor(values)

    def _read_tensor(self, item: Field, fallback: str = "") -> _Tensor:
        tensor = _Tensor()
        parts = list(self._fields(item.start, item.end))
        for part in parts:
            if part.number == 1:
                tensor.dims.extend(self._integers(part))
            elif part.number == 2:
                tensor.dtype = DTYPES.get(part.value, f"type {part.value}")
            elif part.number == 8:
                tensor.name = self._text(part)
            elif part.number == 13:
                pair = {sub.number: self._text(sub) for sub in self._fields(part.start, part.end)}
                tensor.external[pair.get(1, "")] = pair.get(2, "")
            elif part.number == 14:
                tensor.is_external = part.value == 1
        label = tensor.name or fallback or "unnamed"
        if tensor.is_external:
            self._read_external(tensor, label)
        elif tensor.dtype in _FLOATS:
            for part in parts:
                self._read_inline(part, tensor.dtype, label)
        return tensor

    def _read_inline(self, part: Field, dtype: str, label: str) -> None:
        width = _FLOATS[dtype]
        if part.number == 9 or (part.number, dtype) in ((4, "float32"), (10, "float64")):
            self._add_floats(self._graph.floats, part, label, dtype)
        elif part.number == 5 and width == 2 and part.end > part.start:
            raise ValueError(
                f"tensor {label} keeps {dtype} values as integers, which this reader does not support"
            )

    def _add_floats(self, regions: list[FloatRegion], part: Field, label: str, dtype: str) -> None:
        count, rest = divmod(part.end - part.start, _FLOATS[dtype])
        if rest:
            raise ValueError(f"tensor {label} ends within a value")
        if count:
            regions.append(FloatRegion(label, dtype, part.start, count))

    def _read_external(self, tensor: _Tensor, label: str) -> None:
        location = tensor.external.get("location", "")
        pure = PurePosixPath(location)
        if not location or pure.is_absolute() or ".." in pure.parts or "\\" in location or "\0" in location:
            raise ValueError(f"tensor {label} points outside the model's folder: {location!r}")
        self._graph.external.add(location)
        if tensor.dtype in _FLOATS:
            offset = int(tensor.external.get("offset", "0"))
            if offset < 0:
                raise ValueError(f"tensor {label} starts before its file")
            region = FloatRegion(label, tensor.dtype, offset, tensor.elements, location)
            self._graph.floats.append(region)

    def _integers(self, part: Field) -> Iterator[int]:
        if part.wire == _VARINT:
            yield part.value
            return
        at = part.start
        while at < part.end:
            value, at = self._varint(at, part.end)
            yield value

    def _read_port(self, item: Field) -> Port:
        name, dtype = "", "unknown"
        dims: list[str | int] = []
        for part in self._fields(item.start, item.end):
            if part.number == 1:
                name = self._text(part)
            elif part.number == 2:
                for tensor in self._sub(part, 1):
                    for fact in self._fields(tensor.start, tensor.end):
                        if fact.number == 1:
                            dtype = DTYPES.get(fact.value, f"type {fact.value}")
                        elif fact.number == 2:
                            dims.extend(self._dim(dim) for dim in self._sub(fact, 1))
        return Port(name, dtype, tuple(dims))

    def _dim(self, item: Field) -> str | int:
        for part in self._fields(item.start, item.end):
            if part.number == 1:
                return part.value
            if part.number == 2:
                return self._text(part)
        return "?"
