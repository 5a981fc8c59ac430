"""`farm catalog`: the models, by filter or one in full, and what they resolve to."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from farm.data import LOOKUP_TABLE
from farm.domain.job import OBJECTIVES
from farm.domain.lut import read_lut
from farm.report.catalogue import model_page, models_grid
from tests.cli.conftest import Invoke


def listing(invoke: Invoke, *words: str) -> list[dict[str, Any]]:
    result = invoke("catalog", *words, "--json")
    assert result.exit_code == 0, result.stderr
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def one(invoke: Invoke, *words: str) -> dict[str, Any]:
    result = invoke("catalog", *words, "--json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def printed(renderable: Any, width: int) -> list[str]:
    screen = Console(file=io.StringIO(), width=width, color_system=None)
    with screen.capture() as captured:
        screen.print(renderable)
    return [line.rstrip() for line in captured.get().splitlines()]


def test_every_model_of_catalogue_and_table_with_each_objective(invoke: Invoke) -> None:
    entries = listing(invoke)
    models = [entry["model"] for entry in entries]
    assert len(models) == len(set(models))
    assert set(read_lut(LOOKUP_TABLE).models) <= set(models)
    assert sum(len(entry["rows"]) for entry in entries) == len(read_lut(LOOKUP_TABLE).rows)
    for entry in entries:
        assert [job["objective"] for job in entry["configurations"]] == list(OBJECTIVES)


class TestOneModel:
    def test_in_full(self, invoke: Invoke) -> None:
        found = one(invoke, "bert-base-cased")
        assert (found["usable_length"], found["vocab"], found["confidence"]) == (512, 28996, "verified")
        asked = {(job["task"], job["objective"]): job for job in found["configurations"]}
        assert len(asked) == len(found["configurations"]) == 6
        for row in read_lut(LOOKUP_TABLE).rows:
            if row.model == "bert-base-cased":
                job = asked.pop((row.task, row.objective))
                assert job["mos"] == row.config.mos
                assert (job["sources"]["mos"], job["sources"]["opset"]) == ("table", "default")
                assert row.published is not None
                assert job["published_inf_s"] == row.published.inf_s
        assert asked == {}

    def test_an_objective_without_rows_has_the_defaults(self, invoke: Invoke) -> None:
        by_objective = {job["objective"]: job for job in one(invoke, "intfloat/e5-large")["configurations"]}
        assert by_objective["best-throughput"]["sources"]["cores"] == "table"
        assert by_objective["balanced"]["sources"]["cores"] == "default"
        assert by_objective["balanced"]["published_inf_s"] is None

    def test_by_its_canonical_id_or_as_elsewhere_with_m(self, invoke: Invoke) -> None:
        plain = one(invoke, "bert-base-cased")
        assert one(invoke, "google-bert/bert-base-cased") == plain
        assert one(invoke, "-m", "bert-base-cased") == plain

    def test_that_only_the_table_knows(self, invoke: Invoke, tmp_path: Path) -> None:
        header, row = LOOKUP_TABLE.read_text(encoding="utf-8-sig").splitlines()[:2]
        table = tmp_path / "own.csv"
        table.write_text(f"{header}\n{row.replace('BAAI/bge-reranker-large', 'mine/own')}\n")
        found = one(invoke, "mine/own", "--lut", str(table))
        assert (found["model"], found["params"], len(found["rows"])) == ("mine/own", None, 1)
        assert "only the look-up table" in invoke("catalog", "mine/own", "--lut", str(table)).stdout
        assert "mine/own" in [entry["model"] for entry in listing(invoke, "--lut", str(table))]

    @pytest.mark.parametrize(
        ("name", "near"),
        [
            ("bert-base-casd", "bert-base-cased"),
            ("google-bert/bert-base-cassed", "bert-base-cased"),
            ("MINILM", "sentence-transformers/all-MiniLM-L6-v2"),
            ("nothing-like-it-anywhere", "`farm catalog` lists the models"),
        ],
    )
    def test_unknown_is_one_line_with_near_names(self, invoke: Invoke, name: str, near: str) -> None:
        result = invoke("catalog", name)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
        assert name in result.stderr
        assert near in result.stderr

    @pytest.mark.parametrize("model", ["bert-base-cased", "sentence-transformers/gtr-t5-large"])
    def test_on_a_page_of_80_columns(self, invoke: Invoke, model: str) -> None:
        lines = printed(model_page(one(invoke, model)), 80)
        assert max(map(len, lines)) <= 80
        assert sum(line.split()[:1] == ["batch"] for line in lines) == len(
            {job["task"] for job in one(invoke, model)["configurations"]}
        )

    def test_the_page_says_what_is_doubtful_and_where_values_come_from(self, invoke: Invoke) -> None:
        page = invoke("catalog", "microsoft/deberta-v3-small").stdout
        assert "derived from its siblings" in page
        assert "untrained" in page
        assert "question-answering (head made from the seed)" in page
        assert "sentencepiece, protobuf" in page
        assert "13 d" in page
        assert "128 t" in page


class TestFilters:
    def test_family_and_size(self, invoke: Invoke) -> None:
        entries = listing(invoke, "--family", "distilbert", "--max-params", "70M")
        assert entries
        assert all(entry["model_type"] == "distilbert" and entry["params"] <= 70e6 for entry in entries)

    def test_listed(self, invoke: Invoke) -> None:
        assert len(listing(invoke, "--listed")) == 80

    def test_task(self, invoke: Invoke) -> None:
        assert {entry["task"] for entry in listing(invoke, "--task", "question-answering")} == {
            "question-answering"
        }

    @pytest.mark.parametrize(
        ("text", "same_as"), [("0.11G", "110M"), ("110000K", "110m"), ("110000000", "110M"), ("1.5B", "1.5G")]
    )
    def test_a_size_however_it_is_written(self, invoke: Invoke, text: str, same_as: str) -> None:
        assert listing(invoke, "--max-params", text) == listing(invoke, "--max-params", same_as)

    @pytest.mark.parametrize(
        "words",
        [
            ["--family", "bart"],
            ["--task", "translation"],
            ["--max-params", "0"],
            ["--max-params", "-1"],
            ["--max-params", "110X"],
            ["bert-base-cased", "--listed"],
            ["bert-base-cased", "-m", "bert-base-cased"],
        ],
        ids=" ".join,
    )
    def test_what_no_model_can_be_is_refused(self, invoke: Invoke, words: list[str]) -> None:
        result = invoke("catalog", *words)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)

    def test_none_that_fits_says_so(self, invoke: Invoke) -> None:
        result = invoke("catalog", "--max-params", "1K")
        assert (result.exit_code, result.stdout) == (0, "")
        assert "no model" in result.stderr


@pytest.mark.parametrize(("width", "columns"), [(80, 3), (120, 5), (240, 10)])
def test_a_table_for_the_human_never_folds_a_name(invoke: Invoke, width: int, columns: int) -> None:
    entries = listing(invoke)
    screen = Console(width=width)
    grid = models_grid(entries).fitting(screen)
    assert len(grid.columns) == columns
    lines = printed(grid.rich(), width)
    for entry in entries:
        assert sum(line.split()[:1] == [entry["model"]] for line in lines) == 1
    assert all(len(line) <= width for line in lines)
