"""The SDK's own one-core test program, `test-data/aic100/v2/1nsp/1nsp-conv-hmx`: one small convolution."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from . import build, convert


def write(directory: Path, sdk: str) -> None:
    """Compile the test program into `directory`, which must exist."""
    rng = np.random.default_rng(1)
    weight = numpy_helper.from_array(rng.standard_normal((16, 16, 3, 3)).astype(np.float32), "weight")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["input", "weight"], ["output"], pads=[1, 1, 1, 1])],
        "1nsp-conv-hmx",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 16, 32, 32])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 16, 32, 32])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    request = build.Request(
        symbols={}, batch_size=1, stats_batch_size=1, half=True, cores=1, flags={}, sdk=sdk
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        build.write(build.build(convert.load(path), request, "1nsp-conv-hmx"), directory)


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2])
