"""`farm catalog`: the models and what they resolve to."""

from __future__ import annotations

import json

from farm.data import LOOKUP_TABLE
from farm.domain.job import OBJECTIVES
from farm.domain.lut import read_lut
from tests.cli.conftest import Invoke


def test_every_model_of_catalogue_and_table_with_each_objective(invoke: Invoke) -> None:
    entries = json.loads(invoke("catalog", "--json").stdout)
    models = [entry["model"] for entry in entries]
    assert len(models) == len(set(models))
    assert set(read_lut(LOOKUP_TABLE).models) <= set(models)
    assert sum(len(entry["rows"]) for entry in entries) == len(read_lut(LOOKUP_TABLE).rows)
    for entry in entries:
        assert [job["objective"] for job in entry["configurations"]] == list(OBJECTIVES)


def test_one_model_whether_known_or_not(invoke: Invoke) -> None:
    [known] = json.loads(invoke("catalog", "-m", "bert-base-cased", "--json").stdout)
    assert known["usable_length"] == 512
    [unknown] = json.loads(invoke("catalog", "-m", "someone/something", "--json").stdout)
    assert (unknown["params"], unknown["rows"]) == (None, [])
    assert {job["sources"]["batch_size"] for job in unknown["configurations"]} == {"default"}


def test_filters(invoke: Invoke) -> None:
    entries = json.loads(
        invoke("catalog", "--family", "distilbert", "--max-params", "70000000", "--json").stdout
    )
    assert entries
    assert all(entry["model_type"] == "distilbert" and entry["params"] <= 70e6 for entry in entries)
    assert len(json.loads(invoke("catalog", "--listed", "--json").stdout)) == 80


def test_a_table_for_the_human(invoke: Invoke) -> None:
    result = invoke("catalog", "--listed")
    assert result.exit_code == 0
    assert "bert-base-cased" in result.stdout
