"""The stages joined over a store: what the run executes, what the reference executes, and their inputs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from farm.artifacts import Store
from farm.domain.errors import StageFailed
from farm.domain.job import Job, StageKind
from farm.domain.plan import plan
from farm.sdk.launcher import DirectLauncher
from farm.sdk.root import Sdk
from farm.stages.exporter import Exporter
from farm.stages.fp16_range import clip_to_fp16
from farm.worker.building import StoreBuilder
from farm.worker.perform import CLIPPED, Performer
from tests.stages.conftest import MakeRoot, job
from tests.stages.small_model import FACTS, write_model
from tests.stages.test_run import card

EXPORT = {"key": "export-test", "head": "checkpoint"}


class Line:
    """One job's way from an export to its comparison."""

    def __init__(self, sdk: Sdk, tmp_path: Path, exporter: Exporter) -> None:
        self.performer = Performer(Store(tmp_path / "store"), DirectLauncher(), exporter, sdk.root)
        self.builder = StoreBuilder(self.performer.store)
        self.sdk = sdk
        self.tmp_path = tmp_path
        self.job: Job = job()

    def export(self, model: Path) -> None:
        """Put the model and its clipped twin into the store, as an export does."""
        store = self.performer.store
        folder = store.begin(EXPORT["key"], "token")
        (folder / "model.onnx").write_bytes(model.read_bytes())
        clip_to_fp16(folder / "model.onnx", folder / CLIPPED)
        store.publish(EXPORT["key"], folder, FACTS)

    def ask(self, kind: StageKind) -> Mapping[str, Any]:
        return next(stage.ask for stage in plan([self.job]).stages if stage.kind == kind)

    def reference(self, name: str = "reference") -> dict[str, Any]:
        log = self.tmp_path / f"{name}.log"
        return self.performer.reference(self.ask("reference"), EXPORT, self.builder, log)

    def run(self) -> dict[str, Any]:
        log = self.tmp_path / "compile.log"
        made = self.performer.compile(self.ask("compile"), EXPORT, self.builder, log)
        prepared = self.performer.prepare(self.job, EXPORT, made, self.tmp_path / "attempt")
        return self.performer.run(prepared, card(self.sdk))

    def compare(self, reference: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
        return self.performer.compare(self.ask("compare"), self.job, EXPORT, reference, run)


@pytest.fixture
def line(make_root: MakeRoot, tmp_path: Path) -> Iterator[Line]:
    with Exporter() as exporter:
        yield Line(make_root(), tmp_path, exporter)


def scaled(folder: Path, factor: float, *, added: bool = False) -> Path:
    """The small model with its hidden output times, or plus, `factor` times a tiny part of it."""
    model = onnx.load(write_model(folder))
    graph = model.graph
    [product] = [node for node in graph.node if node.output[0] == "last/hidden"]
    product.output[0] = "plain"
    for node in graph.node:
        if node.op_type == "ReduceMean":
            node.input[0] = "last/hidden"
    graph.initializer.append(numpy_helper.from_array(np.array([factor], np.float32), "factor"))
    at = list(graph.node).index(product) + 1
    if added:
        # As an attention mask is applied: (1 - mask) * -3.4e38, which is nothing where the mask is one.
        graph.initializer.append(numpy_helper.from_array(np.array([1.0], np.float32), "one"))
        new = [
            helper.make_node("Sub", ["one", "mask3"], ["hidden_part"]),
            helper.make_node("Mul", ["hidden_part", "factor"], ["penalty"]),
            helper.make_node("Add", ["plain", "penalty"], ["last/hidden"]),
        ]
    else:
        graph.initializer.append(numpy_helper.from_array(np.array([1e-5], np.float32), "tiny"))
        new = [
            helper.make_node("Mul", ["plain", "tiny"], ["small"]),
            helper.make_node("Mul", ["small", "factor"], ["last/hidden"]),
        ]
    for offset, node in enumerate(new):
        graph.node.insert(at + offset, node)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def test_clipping_that_changes_nothing_passes(line: Line) -> None:
    line.export(scaled(line.tmp_path / "made", -3.4e38, added=True))
    verdict = line.compare(line.reference(), line.run())
    assert (verdict["accuracy"], verdict["flags"]) == ("pass", [])


def test_clipping_that_changes_the_outputs_is_seen_for_the_reference_is_unclipped(line: Line) -> None:
    line.export(scaled(line.tmp_path / "made", 2e5))
    reference, run = line.reference(), line.run()
    expected = np.load(line.performer.store.path(reference["key"]) / "last%2Fhidden.npy")
    got = np.fromfile(run["outputs"]["last/hidden"], np.float32).reshape(expected.shape)
    np.testing.assert_allclose(got, expected * (65504 / 2e5), atol=0.02)
    clipped = line.performer.store.path(EXPORT["key"]) / CLIPPED
    # The emulated compiler saturates by itself, so its outputs alone do not tell which file it was given.
    calls = map(json.loads, (line.sdk.root / "state/calls.log").read_text().splitlines())
    models = {word for call in calls for word in call["argv"] if word.startswith("-m=") and "store" in word}
    assert models == {f"-m={clipped}"}
    [shown] = (line.tmp_path / "attempt").rglob("model/model.onnx")
    assert shown.resolve() == clipped.resolve()
    assert any(flag.startswith("scale_differs") for flag in line.compare(reference, run)["flags"])


def test_outputs_of_other_inputs_are_not_compared(line: Line) -> None:
    line.export(write_model(line.tmp_path / "made"))
    reference, run = line.reference(), line.run()
    [ids] = (line.tmp_path / "attempt").rglob("input_ids_*.raw")
    ids.write_bytes(ids.read_bytes()[::-1])
    with pytest.raises(StageFailed, match=r"input input_ids_2x16.raw: the run's bytes are not the") as caught:
        line.compare(reference, run)
    assert caught.value.kind == "host"
    ids.unlink()
    with pytest.raises(StageFailed, match=r"input_ids_2x16.raw of the run cannot be read: No such file"):
        line.compare(reference, run)
