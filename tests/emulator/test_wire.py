"""An ONNX file is read without its weights, and nothing of it is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from farm.emulator.runtime import wire
from farm.emulator.runtime.external import LARGE, is_external
from tests.emulator.emulated import encoder, save

QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def odd() -> ModelProto:
    """An encoder with weights of other kinds: not raw, not float, half, empty, metadata of its own."""
    model = encoder()
    model.metadata_props.add(key="made by", value="tests")
    graph = model.graph
    graph.initializer.extend(
        [
            helper.make_tensor("listed", TensorProto.FLOAT, [2000], np.arange(2000.0)),
            numpy_helper.from_array(np.arange(LARGE, dtype=np.int64), "whole"),
            numpy_helper.from_array(np.ones(LARGE, np.float16), "half"),
            numpy_helper.from_array(np.ones(0, np.float32), "none"),
            numpy_helper.from_array(np.ones(LARGE // 4 - 1, np.float32), "small"),
            numpy_helper.from_array(np.ones(LARGE // 4, np.float32), "large"),
        ]
    )
    return model


def test_only_large_raw_floats_stay_in_the_file(tmp_path: Path) -> None:
    model = wire.parse(save(odd(), tmp_path / "model.onnx"))
    outside = {tensor.name for tensor in model.graph.initializer if is_external(tensor)}
    assert outside == {"table", "first", "second", "large"}
    assert model.ByteSize() < 80_000
    onnx.load_external_data_for_model(model, str(tmp_path))
    for tensor in model.graph.initializer:  # the loader leaves the entries of where it found them
        tensor.ClearField("data_location")
        tensor.ClearField("external_data")
    assert model == odd()


@QUICK
@given(data=st.data())
def test_a_damaged_file_is_refused_or_read(tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(odd().SerializeToString())
    path = tmp_path / "model.onnx"
    where = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        whole[where] ^= data.draw(st.integers(1, 255))
    else:
        del whole[where:]
    path.write_bytes(whole)
    try:
        wire.parse(path)
    except ValueError:
        return


@pytest.mark.parametrize("content", [b"", b"\xff" * 20, b"\x3a\x7f"])
def test_what_is_no_message_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"."):
        wire.parse(path)
