"""The reference: ONNX Runtime in a child process, on a graph small enough to know the answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from farm.domain.errors import StageFailed
from farm.sdk.child import ChildResult, ChildSpec, run_child
from farm.stages.inputs import input_arrays
from farm.stages.reference import build_reference, output_file, reference_key, reference_versions

DIMS = ["batch_size", "sequence_length"]
ASK = {"batch_size": 2, "seq_length": 6, "seed": 3}
FACTS: dict[str, Any] = {
    "inputs": [{"name": "input_ids", "dtype": "int64", "dims": DIMS}],
    "outputs": [{"name": "/head/logits", "dtype": "float32", "dims": [*DIMS, 3]}],
    "vocab_size": 40,
}
TABLE = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)


class Launcher:
    def run(self, spec: ChildSpec) -> ChildResult:
        return run_child(spec)


@pytest.fixture
def export_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    folder.mkdir()
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["/head/logits"])],
        "g",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, DIMS)],
        [helper.make_tensor_value_info("/head/logits", TensorProto.FLOAT, [*DIMS, 3])],
        [numpy_helper.from_array(TABLE, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder


def _build(export_dir: Path, tmp_path: Path) -> dict[str, Any]:
    out = tmp_path / "out"
    out.mkdir()
    return build_reference(ASK, export_dir, FACTS, out, Launcher(), tmp_path / "log")


def test_outputs_inputs_and_facts(export_dir: Path, tmp_path: Path) -> None:
    facts = _build(export_dir, tmp_path)
    out = tmp_path / "out"
    ids = input_arrays(FACTS, 2, 6, 3)["input_ids"]
    np.testing.assert_array_equal(np.load(out / output_file("/head/logits")), TABLE[ids])
    assert (out / "inputs" / "input_ids_2x6.raw").read_bytes() == ids.tobytes()
    assert json.loads((out / "facts.json").read_text()) == json.loads(json.dumps(facts))
    assert facts["outputs"] == [
        {"name": "/head/logits", "file": "%2Fhead%2Flogits.npy", "dtype": "float32", "dims": [2, 6, 3]}
    ]
    assert sorted(path.name for path in out.iterdir()) == ["%2Fhead%2Flogits.npy", "facts.json", "inputs"]


def test_a_model_onnx_runtime_refuses_is_bad_input(export_dir: Path, tmp_path: Path) -> None:
    model = onnx.load(export_dir / "model.onnx")
    model.graph.node[0].op_type = "NoSuchOperator"
    (export_dir / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(StageFailed, match="NoSuchOperator") as caught:
        _build(export_dir, tmp_path)
    assert caught.value.kind == "input"
    assert "\n" not in str(caught.value)
    assert "Traceback" in Path(str(caught.value.log)).read_text()


class Instead:
    """Runs another program in the child's place."""

    def __init__(self, *argv: str) -> None:
        self.argv = argv

    def run(self, spec: ChildSpec) -> ChildResult:
        return run_child(ChildSpec(self.argv, spec.cwd, spec.log, spec.limit_s))


@pytest.mark.parametrize(
    ("argv", "limit_s", "kind", "says"),
    [
        (("/bin/sleep", "60"), 0.1, "input", "passed its time limit"),
        (("/bin/sh", "-c", "kill -9 $$"), 60, "host", "signal 9"),
        (("/bin/true",), 60, "host", "status 0 and no answer"),
    ],
)
def test_how_a_child_ended_is_said(
    export_dir: Path, tmp_path: Path, argv: tuple[str, ...], limit_s: float, kind: str, says: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(StageFailed, match=says) as caught:
        build_reference(ASK, export_dir, FACTS, out, Instead(*argv), tmp_path / "log", limit_s=limit_s)
    assert caught.value.kind == kind


def test_the_key_covers_what_determines_the_bytes() -> None:
    versions = reference_versions()
    base = reference_key(ASK, "export-1", versions)
    assert base == reference_key({**ASK, "cores": 3}, "export-1", versions)
    others = [reference_key({**ASK, name: 9}, "export-1", versions) for name in ASK]
    others += [reference_key(ASK, "export-2", versions), reference_key(ASK, "export-1", {"onnxruntime": "0"})]
    assert len({base, *others}) == 6
