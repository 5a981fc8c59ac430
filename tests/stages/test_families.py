"""Every family in every task, small and with random weights, from its export to its comparison."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from farm.artifacts import Store
from farm.domain.catalogue import Catalogue, ModelFacts
from farm.domain.families import tasks_of
from farm.domain.job import CardConfiguration, StageKind
from farm.domain.plan import plan
from farm.emulator import write_root
from farm.sdk.devices import Device, query
from farm.sdk.launcher import DirectLauncher
from farm.stages.exporter import Exporter
from farm.worker.building import StoreBuilder
from farm.worker.perform import Performer
from tests.stages.conftest import job

#: A model of each family whose labels, embedding or pooling are not the plain case, where it has one.
MODELS = {
    "albert": "tals/albert-xlarge-vitaminc-mnli",
    "bert": "dslim/bert-base-NER",
    "camembert": "camembert-base",
    "deberta-v2": "microsoft/deberta-v3-small",
    "distilbert": "sentence-transformers/msmarco-distilbert-base-tas-b",
    "electra": "classla/bcms-bertic-ner",
    "mpnet": "sentence-transformers/all-mpnet-base-v2",
    "roberta": "cardiffnlp/twitter-roberta-base-sentiment",
    "t5": "sentence-transformers/gtr-t5-large",
    "xlm-roberta": "BAAI/bge-reranker-large",
}
POSITIONS, VOCABULARY = 24, 200
PAIRS = [(family, task) for family in MODELS for task in tasks_of(family)]
BEHIND_PADDING = ("camembert", "mpnet", "roberta", "xlm-roberta")


def small(model: str) -> ModelFacts:
    """The facts of a catalogue's model, made small: hidden 32, two layers, 24 positions."""
    facts = Catalogue.load().get(model)
    assert facts is not None
    sizes: dict[str, Any] = {"layers": 2, "hidden": 32, "heads": 2, "intermediate": 64, "vocab": VOCABULARY}
    if facts.embedding:
        sizes["embedding"] = 16
    if facts.max_positions:
        sizes["max_positions"] = POSITIONS
    if facts.pooling:
        sizes["pooling"] = facts.pooling.replace(":768", ":24")
    return replace(facts, **sizes)


class Line:
    """The way of a job over one store, one exporter and one emulated card."""

    def __init__(self, folder: Path, exporter: Exporter) -> None:
        write_root(folder / "root", cards=1, timing="modelled")
        self.performer = Performer(Store(folder / "store"), DirectLauncher(), exporter, folder / "root")
        self.card: Device = query(self.performer.sdk, [0])[0]
        self.builder = StoreBuilder(self.performer.store)
        self.catalogue = Catalogue(map(small, MODELS.values()))
        self.folder = folder

    def go(self, model: str, task: str, seq_length: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """The facts of the export, and the verdict."""
        config = CardConfiguration(2, seq_length, 1, 1, 1)
        asked = job(model=model, task=task, config=config, weights="random")
        asks = {stage.kind: stage.ask for stage in plan([asked], self.catalogue).stages}
        do, out = self.performer, self.folder / model / task
        out.mkdir(parents=True)
        logs: dict[StageKind, Path] = {kind: out / f"{kind}.log" for kind in asks}
        export = do.export(asks["export"], self.builder, logs["export"])
        reference = do.reference(asks["reference"], export, self.builder, logs["reference"])
        compiled = do.compile(asks["compile"], export, self.builder, logs["compile"])
        run = do.run(do.prepare(asked, export, compiled, out / "attempt"), self.card)
        manifest = do.store.open(export["key"])
        assert manifest is not None
        return dict(manifest.facts), do.compare(asks["compare"], asked, export, reference, run)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    with Exporter(max_exports=1000) as exporter:
        yield Line(tmp_path_factory.mktemp("families"), exporter)


@pytest.mark.parametrize(("family", "task"), PAIRS)
def test_a_pair_runs_to_its_comparison_at_its_longest_input(line: Line, family: str, task: str) -> None:
    longest = POSITIONS - (2 if family in BEHIND_PADDING else 0)
    facts, verdict = line.go(MODELS[family], task, longest)
    assert verdict["accuracy"] == "numerics only"
    # The cosine of single values says nothing: a reranker has one label.
    single = task == "text-classification" and MODELS[family] == "BAAI/bge-reranker-large"
    assert verdict["cosine_min"] is None if single else verdict["cosine_min"] >= 0.99
    assert facts["opset"] == 13
