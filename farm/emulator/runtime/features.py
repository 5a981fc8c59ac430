"""What the timing model wants to know of a network: arithmetic, weights and traffic."""

from __future__ import annotations

from math import prod

from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

_GATHERS = {"Gather", "GatherElements", "GatherND"}


def shape(value: ValueInfoProto) -> list[int] | None:
    """The static shape of a value, None where a dimension is not known."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    dims = value.type.tensor_type.shape.dim
    if not all(dim.HasField("dim_value") for dim in dims):
        return None
    return [dim.dim_value for dim in dims]


def value_bytes(elem_type: int, dims: list[int]) -> int:
    """Bytes of a tensor."""
    return prod(dims) * int(helper.tensor_dtype_to_np_dtype(elem_type).itemsize)


def macs(model: ModelProto) -> int:
    """Multiply-accumulates of one inference: matrix products and convolutions whose shapes were inferred."""
    graph = model.graph
    shapes: dict[str, list[int]] = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        known = shape(value)
        if known is not None:
            shapes[value.name] = known
    return sum(_node_macs(node, shapes) for node in graph.node)


def _node_macs(node: NodeProto, shapes: dict[str, list[int]]) -> int:
    if node.op_type not in {"MatMul", "Gemm", "Conv"}:
        return 0
    out, left, right = (shapes.get(name) for name in (node.output[0], *node.input[:2]))
    if node.op_type == "Conv":
        return prod(out) * prod(right[1:]) if out and right else 0
    if node.op_type == "Gemm":
        transposed = any(item.name == "transA" and item.i for item in node.attribute)
        return prod(out) * left[0 if transposed else 1] if out and left else 0
    if left and right and not out:  # batch dimensions broadcast; those of one side will do
        out = [*max(left[:-2], right[:-2], key=len), left[-2] if len(left) > 1 else 1, right[-1]]
    return prod(out) * left[-1] if out and left else 0


def features(model: ModelProto, resolved: ModelProto, batch_size: int, weight_size: int) -> dict[str, int]:
    """The features of a model; `resolved` has its shapes, a stored weight element `weight_size` bytes.

    `weight_bytes` counts every weight; `gather_bytes` the part of them that is only gathered from.
    Per sample: a `batch_size`-th of an inference. `layers` counts softmaxes, one an attention layer.
    """
    graph = model.graph
    readers: dict[str, set[str]] = {}
    for node in graph.node:
        for name in node.input[:1] if node.op_type in _GATHERS else node.input:
            readers.setdefault(name, set()).add(node.op_type)
    total = gathered = 0
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        size = prod(tensor.dims) * weight_size
        total += size
        if readers.get(tensor.name, set()) <= _GATHERS:
            gathered += size

    def traffic(values: list[ValueInfoProto]) -> int:
        known = ((value.type.tensor_type.elem_type, shape(value) or []) for value in values)
        return sum(value_bytes(elem_type, dims) for elem_type, dims in known) // batch_size

    return {
        "macs_per_sample": macs(resolved) // batch_size,
        "weight_bytes": total,
        "gather_bytes": gathered,
        "input_bytes_per_sample": traffic(list(graph.input)),
        "output_bytes_per_sample": traffic(list(resolved.graph.output)),
        "layers": sum(node.op_type == "Softmax" for node in graph.node),
    }


def dtype_name(elem_type: int) -> str:
    """numpy's name of an ONNX element type, such as int64."""
    return str(helper.tensor_dtype_to_np_dtype(elem_type))
