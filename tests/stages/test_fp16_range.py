"""Clipping to the fp16 range, checked against the onnx package; the wire reader on hostile files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from farm.domain.errors import StageFailed
from farm.stages.fp16_range import FP16_MAX, clip_to_fp16
from farm.stages.onnx_wire import read_graph

FLOATS = st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=20)


def _model(initializers: list[TensorProto], nodes: list[onnx.NodeProto] | None = None) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch_size", "sequence_length"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch_size", "sequence_length", 4])
    table = numpy_helper.from_array(np.ones((9, 4), np.float32), "table")
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["y"]), *(nodes or [])]
    graph = helper.make_graph(nodes, "g", [x], [y], [table, *initializers])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def _save(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def _float_tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            elif attribute.type == onnx.AttributeProto.GRAPH:
                yield from _float_tensors(attribute.g)


def _values(path: Path) -> list[np.ndarray]:
    return [numpy_helper.to_array(tensor) for tensor in _float_tensors(onnx.load(path).graph)]


def _branches() -> onnx.NodeProto:
    def branch(name: str, value: float) -> onnx.GraphProto:
        node = helper.make_node(
            "Constant", [], [name], value=numpy_helper.from_array(np.array([value], np.float32), name)
        )
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])
        return helper.make_graph([node], name, [], [out])

    return helper.make_node(
        "If", ["condition"], ["chosen"], then_branch=branch("then", -1e30), else_branch=branch("else", 3.0)
    )


@settings(max_examples=60, deadline=None)
@given(values=FLOATS, raw=st.booleans(), constant=st.booleans())
def test_every_value_is_clipped_as_numpy_clips(
    values: list[float], raw: bool, constant: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("clip")
    array = np.array(values, np.float32)
    data = array.tobytes() if raw else values
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [len(values)], data, raw=raw)
    nodes = [helper.make_node("Constant", [], ["c"], value=tensor)] if constant else []
    source = _save(_model([] if constant else [tensor], nodes), folder)
    before = source.read_bytes()

    changed = clip_to_fp16(source, folder / "clipped" / "model.onnx")

    right = [np.clip(item, -FP16_MAX, FP16_MAX) for item in _values(source)]
    for got, want in zip(_values(folder / "clipped" / "model.onnx"), right, strict=True):
        np.testing.assert_array_equal(got, want)
    assert changed == int(np.count_nonzero(np.abs(array) > FP16_MAX))
    assert source.read_bytes() == before
    assert (folder / "clipped" / "model.onnx").samefile(source) == (changed == 0)


def test_subgraphs_doubles_halves_and_plain_constants(tmp_path: Path) -> None:
    nodes = [
        _branches(),
        helper.make_node("Constant", [], ["f"], value_float=1e30),
        helper.make_node("Constant", [], ["fs"], value_floats=[1.0, -math.inf]),
        helper.make_node("LeakyRelu", ["y"], ["z"], alpha=1e30),
    ]
    wide = numpy_helper.from_array(np.array([1e300, 2.0]), "wide")
    half = numpy_helper.from_array(np.array([np.inf, 2.0], np.float16), "half")
    source = _save(_model([wide, half], nodes), tmp_path)

    assert clip_to_fp16(source, tmp_path / "out" / "model.onnx") == 5

    clipped = onnx.load(tmp_path / "out" / "model.onnx")
    assert sorted(
        float(v) for a in _values(tmp_path / "out" / "model.onnx") for v in a.ravel() if abs(v) > 9
    ) == [-FP16_MAX, FP16_MAX, FP16_MAX]
    by_output = {node.output[0]: node for node in clipped.graph.node}
    assert by_output["f"].attribute[0].f == FP16_MAX
    assert list(by_output["fs"].attribute[0].floats) == [1.0, -FP16_MAX]
    assert by_output["z"].attribute[0].f == pytest.approx(1e30), "an operator's own attribute is not a weight"


def test_external_data_is_clipped_in_a_copy_that_onnx_can_read(tmp_path: Path) -> None:
    big = numpy_helper.from_array(np.array([1.0, 1e9] * 64, np.float32), "big")
    fine = numpy_helper.from_array(np.ones(128, np.float32), "fine")
    path = tmp_path / "model.onnx"
    onnx.save_model(
        _model([big, fine]),
        path,
        save_as_external_data=True,
        all_tensors_to_one_file=False,
        size_threshold=64,
    )
    assert read_graph(path).external == {"big", "fine", "table"}

    assert clip_to_fp16(path, tmp_path / "out" / "model.onnx") == 64

    clipped = {
        t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "out/model.onnx").graph.initializer
    }
    assert clipped["big"].max() == FP16_MAX
    assert (clipped["fine"] == 1).all()
    assert (tmp_path / "big").read_bytes() == big.raw_data

    (tmp_path / "big").unlink()
    with pytest.raises(StageFailed, match="data file big is missing"):
        clip_to_fp16(path, tmp_path / "again" / "model.onnx")


@pytest.mark.parametrize("location", ["../outside", "/etc/passwd", "a/../../b"])
def test_data_outside_the_models_folder_is_refused(tmp_path: Path, location: str) -> None:
    tensor = numpy_helper.from_array(np.ones(4, np.float32), "w")
    onnx.external_data_helper.set_external_data(tensor, location)
    tensor.data_location = TensorProto.EXTERNAL
    source = _save(_model([tensor]), tmp_path)
    with pytest.raises(StageFailed, match="outside the model's folder") as caught:
        clip_to_fp16(source, tmp_path / "out" / "model.onnx")
    assert caught.value.kind == "input"


def test_a_nan_is_refused_by_name(tmp_path: Path) -> None:
    source = _save(_model([numpy_helper.from_array(np.array([1, np.nan], np.float32), "sick")]), tmp_path)
    with pytest.raises(StageFailed, match="tensor sick holds NaN") as caught:
        clip_to_fp16(source, tmp_path / "out" / "model.onnx")
    assert caught.value.kind == "input"
    assert not (tmp_path / "out").exists()


def test_values_kept_as_integers_are_refused_rather_than_missed(tmp_path: Path) -> None:
    tensor = helper.make_tensor("bf", TensorProto.BFLOAT16, [2], [1.0, 1e30])
    assert tensor.int32_data or tensor.raw_data
    with pytest.raises(StageFailed, match=r"bf.* bfloat16"):
        clip_to_fp16(_save(_model([tensor]), tmp_path), tmp_path / "out" / "model.onnx")


def test_the_reader_agrees_with_the_onnx_package(tmp_path: Path) -> None:
    graph = read_graph(_save(_model([numpy_helper.from_array(np.ones((3, 5), np.float32), "w")]), tmp_path))
    assert graph.opset == 13
    assert [(p.name, p.dtype, p.dims) for p in graph.inputs] == [
        ("input_ids", "int64", ("batch_size", "sequence_length"))
    ]
    assert [(p.name, p.dtype, p.dims) for p in graph.outputs] == [
        ("y", "float32", ("batch_size", "sequence_length", 4))
    ]
    assert graph.parameters == 9 * 4 + 15
    assert graph.tables == {"input_ids": 9}


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200))
def test_garbage_is_read_or_refused_and_nothing_else(
    data: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "garbage.onnx"
    path.write_bytes(data)
    with suppress(StageFailed):
        read_graph(path)


def test_a_truncated_model_is_refused(tmp_path: Path) -> None:
    whole = _save(_model([numpy_helper.from_array(np.ones((64, 5), np.float32), "w")]), tmp_path)
    data = whole.read_bytes()
    for size in range(0, len(data), 37):
        cut = tmp_path / "cut.onnx"
        cut.write_bytes(data[:size])
        with pytest.raises(StageFailed, match=r"cut\.onnx"):
            read_graph(cut)
