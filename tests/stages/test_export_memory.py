"""The weights' way from torch to disk: the graph Optimum makes, in one file or two, with little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from farm.artifacts import Store
from farm.domain.plan import plan
from farm.sdk.launcher import DirectLauncher
from farm.stages import export as export_stage
from farm.stages.export import build_export, resolve_export
from farm.stages.export_child.external import loaded, refer, settle
from farm.stages.exporter import Exporter
from farm.worker.building import StoreBuilder
from farm.worker.perform import Performer
from tests.stages.conftest import MakeRoot, job
from tests.stages.test_export import ARCHITECTURE
from tests.stages.test_run import card


@pytest.fixture(scope="module")
def exporter() -> Iterator[Exporter]:
    with Exporter() as exporter:
        yield exporter


def _ask(task: str = "fill-mask", **architecture: Any) -> dict[str, Any]:
    return {
        "model": "bert",
        "revision": None,
        "weights": "random",
        "architecture": ARCHITECTURE | architecture,
        "task": task,
        "opset": 13,
        "opset_source": "default",
        "seed": 0,
        "trust_remote_code": False,
    }


def _build(ask: dict[str, Any], out: Path, exporter: Exporter) -> dict[str, Any]:
    out.mkdir(parents=True)
    return build_export(ask, resolve_export(ask), out, exporter, out.parent / f"{out.name}.log")


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _without_location(tensors: Iterable[TensorProto]) -> list[TensorProto]:
    """Copies that do not say, as the onnx package does of data it loaded, that they hold their own data."""
    copies = [TensorProto.FromString(tensor.SerializeToString()) for tensor in tensors]
    for tensor in copies:
        assert tensor.data_location == TensorProto.DEFAULT
        tensor.ClearField("data_location")
    return copies


def test_the_graph_is_optimums_own(tmp_path: Path) -> None:
    # In a process of its own: torch is for the exporter's child alone. The first two tie weights.
    script = """
import copy, json, sys
from pathlib import Path
import onnx, torch
from optimum.exporters.onnx import onnx_export_from_model
from sentence_transformers import SentenceTransformer
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM
import farm.stages.export_child.graph
from farm.domain.errors import StageFailed
from farm.stages.export_child.external import settle
from farm.stages.export_child.tracing import trace
from tests.hub.checkpoints import minilm_folder

size = dict(num_hidden_layers=2, hidden_size=32, num_attention_heads=2, intermediate_size=64, vocab_size=100)
def config(family, **more):
    return AutoConfig.for_model(family, **size, **more)
bert = config("bert")
albert = config("albert", embedding_size=16)
deberta = config("deberta-v2", relative_attention=True, position_buckets=8, pos_att_type=["p2c", "c2p"])
sentences = SentenceTransformer(str(minilm_folder()), device="cpu")
models = {
    "bert": (AutoModelForMaskedLM.from_config(bert), "fill-mask", "transformers"),
    "albert": (AutoModelForMaskedLM.from_config(albert), "fill-mask", "transformers"),
    "deberta": (AutoModel.from_config(deberta), "feature-extraction", "transformers"),
    "minilm": (sentences, "feature-extraction", "sentence_transformers"),
}
same = {}
for name, (model, task, library) in models.items():
    folder = Path(sys.argv[1]) / name
    (folder / "traced").mkdir(parents=True)
    plain = copy.deepcopy(model)
    onnx_export_from_model(plain, folder / "optimum", opset=13, task=task, do_validation=False, device="cpu")
    trace(model, task, library, folder / "traced" / "model.onnx", 13)
    assert all(parameter.numel() == 0 for parameter in model.parameters())
    settle(folder / "traced" / "model.onnx", folder / "model.onnx", 2**31 - 1)
    made, right = onnx.load(folder / "model.onnx"), onnx.load(folder / "optimum" / "model.onnx")
    same[name] = made == right
unknown = AutoModel.from_config(config("fnet"))
try:
    trace(unknown, "feature-extraction", "transformers", Path(sys.argv[1]) / "model.onnx", 13)
except StageFailed as error:
    same["unknown"] = str(error)
print(json.dumps(same))"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert "model type fnet has no ONNX export" in told.pop("unknown")
    assert told == {"bert": True, "albert": True, "deberta": True, "minilm": True}


def test_a_plain_export_holds_its_weights_less_than_three_times(exporter: Exporter, tmp_path: Path) -> None:
    small = _build(_ask(), tmp_path / "small", exporter)
    size = {"num_hidden_layers": 6, "hidden_size": 512, "intermediate_size": 2048, "vocab_size": 20000}
    large = _build(_ask("fill-mask", **size), tmp_path / "large", exporter)
    weights = (tmp_path / "large" / "model.onnx").stat().st_size
    assert weights > 100 << 20
    assert large["peak_rss_bytes"] - small["peak_rss_bytes"] < 2.7 * weights
    again = _build(_ask(), tmp_path / "again", exporter)
    assert again["peak_rss_bytes"] - small["peak_rss_bytes"] < 0.3 * weights, "the memory was given back"


def test_external_data_go_through_every_stage(
    exporter: Exporter, make_root: MakeRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_stage, "SINGLE_FILE_BYTES", 100_000)
    sdk = make_root()
    performer = Performer(Store(tmp_path / "store"), DirectLauncher(), exporter, sdk.root)
    builder = StoreBuilder(performer.store)
    wanted = job(task="fill-mask")
    asks = {stage.kind: stage.ask for stage in plan([wanted]).stages}

    made = performer.export(_ask(vocab_size=1000), builder, tmp_path / "export.log")
    folder = performer.store.path(made["key"])
    data = {"model.onnx", "model.onnx_data"}
    assert data | {f"clipped/{name}" for name in data} <= _files(folder)
    assert (folder / "model.onnx").stat().st_size < (folder / "model.onnx_data").stat().st_size
    assert (folder / "model.onnx_data").read_bytes() == (folder / "clipped/model.onnx_data").read_bytes()
    assert (folder / "model.onnx").read_bytes() != (folder / "clipped/model.onnx").read_bytes()

    reference = performer.reference(asks["reference"], made, builder, tmp_path / "reference.log")
    compiled = performer.compile(asks["compile"], made, builder, tmp_path / "compile.log")
    prepared = performer.prepare(wanted, made, compiled, tmp_path / "attempt")
    run = performer.run(prepared, card(sdk))
    verdict = performer.compare(asks["compare"], wanted, made, reference, run)
    assert verdict["cosine_min"] > 0.99
    assert data <= {path.name for path in prepared.tree.model.parent.iterdir()}


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 700), min_size=1, max_size=6),
    aside=st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_one_file_or_two_hold_what_was_traced(
    sizes: list[int], aside: list[bool], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("settle")
    values = [np.full(size, at, np.float32) for at, size in enumerate(sizes)]
    tensors = [numpy_helper.from_array(value, f"w{at}") for at, value in enumerate(values)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    nodes = [helper.make_node("Identity", ["x"], ["y"], name="only")]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    whole = helper.make_model(helper.make_graph(nodes, "g", [x], [y], tensors))
    traced = onnx.ModelProto()
    traced.CopyFrom(whole)
    with (folder / "weights").open("wb") as file:
        file.write(b"data of a tensor that was tied to another")
        for tensor, value, moves in zip(traced.graph.initializer, values, aside, strict=False):
            if moves:
                refer(tensor, file, value.nbytes)
                file.write(value.data)
    onnx.save(traced, folder / "traced.onnx")

    size = whole.ByteSize()
    settle(folder / "traced.onnx", folder / "one.onnx", size)
    settle(folder / "traced.onnx", folder / "two.onnx", size - 1)

    assert (folder / "one.onnx").stat().st_size == size
    assert not (folder / "one.onnx_data").exists()
    assert onnx.load(folder / "one.onnx") == whole
    two = onnx.load(folder / "two.onnx")
    assert _without_location(two.graph.initializer) == list(whole.graph.initializer)
    del two.graph.initializer[:]
    two.graph.initializer.extend(whole.graph.initializer)
    assert two == whole
    kept = list(traced.graph.initializer)
    with loaded(kept, folder):
        assert _without_location(kept) == list(whole.graph.initializer)
    assert traced == onnx.load(folder / "traced.onnx", load_external_data=False)
