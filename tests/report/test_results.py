"""Rendering of result records: nothing lost, nothing passed off as a card's."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farm.domain.errors import BadInput
from farm.domain.job import OBJECTIVES, TASKS, CardConfiguration, Published
from farm.domain.lut import read_lut
from farm.domain.names import split_model
from farm.domain.result import FIELDS
from farm.report.columns import is_comparable, origin, seconds
from farm.report.lut_rows import to_lut
from farm.report.results import render, write_parquet
from tests.hostile import TEXTS


def record(**values: Any) -> dict[str, Any]:
    """A finished job's record: measured on a card with 14 NSPs unless said otherwise."""
    base: dict[str, Any] = dict.fromkeys(FIELDS)
    base |= {
        **{"campaign": "c", "job": "c.1", "model": "bert-base-cased", "task": "fill-mask"},
        **{"objective": "best-throughput", "precision": "fp16", "state": "done", "weights": "hub"},
        **{"batch_size": 8, "seq_length": 128, "cores": 2, "instances": 7, "set_size": 4, "ols": 2},
        **{"extra": ["-multicast-weights"], "flags": [], "sources": {}, "platform": "aic100"},
        **{"timing": "measured", "nsp_total": 14, "device": "device.3", "head": "checkpoint"},
        **{"throughput_inf_s": 5100.25, "latency_ms_p95": 41.5, "latency_ms_p95_raw": 42.25},
        **{"latency_ms_mean": 40.0, "published_inf_s": 5000.0, "published_latency_ms": 43.0},
    }
    return base | values


numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
values = st.none() | numbers | st.text(st.characters(exclude_characters="\r"))


@given(st.lists(st.fixed_dictionaries(dict.fromkeys(FIELDS, values)), max_size=4))
def test_csv_keeps_every_record_apart_and_every_text_whole(records: list[dict[str, Any]]) -> None:
    header, *rows = csv.reader(io.StringIO(render(records, "csv"), newline=""))
    assert header == list(FIELDS)
    assert rows == [["" if r[n] is None else str(r[n]) for n in FIELDS] for r in records]


def test_csv_holds_no_bare_carriage_return() -> None:
    [row] = csv.DictReader(io.StringIO(render([record(error="a\r\nb\rc")], "csv"), newline=""))
    assert row["error"] == "a\nb\nc"


def test_csv_writes_lists_as_json_and_null_as_nothing() -> None:
    [row] = csv.DictReader(io.StringIO(render([record(flags=["partial"])], "csv")))
    assert json.loads(row["flags"]) == ["partial"]
    assert json.loads(row["extra"]) == ["-multicast-weights"]
    assert row["mos"] == row["error"] == ""


def test_json_is_the_records() -> None:
    records = [record(), record(job="c.2")]
    assert json.loads(render(records, "json")) == records


def test_json_refuses_what_json_does_not_have() -> None:
    with pytest.raises(ValueError, match="JSON"):
        render([record(cosine_min=float("nan"))], "json")


@pytest.mark.parametrize("form", ["table", "md"])
def test_a_humans_view_says_where_numbers_come_from(form: str) -> None:
    card = render([record()], form)
    assert "5,100.2" in card
    assert "5,000.0 / 43.00" in card
    other = render([record(platform="emulated", timing="modelled", weights="random")], form)
    assert "emulated, modelled, random weights" in other
    assert "5,000.0" not in other, "a published figure beside an emulated one"


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["C"])))
def test_markdown_rows_have_as_many_cells_as_the_header(error: str) -> None:
    lines = render([record(error=error)], "md").splitlines()
    assert len(lines) == 3
    cells = [line.replace("\\\\", "").replace("\\|", "").count("|") for line in lines]
    assert len(set(cells)) == 1


@pytest.mark.parametrize(
    ("values", "comparable"),
    [
        ({}, True),
        ({"platform": "emulated"}, False),
        ({"timing": "modelled"}, False),
        ({"nsp_total": 16}, False),
        ({"published_inf_s": None}, False),
    ],
)
def test_published_figures_are_comparable_on_the_same_card_only(
    values: dict[str, Any], comparable: bool
) -> None:
    assert is_comparable(record(**values)) is comparable


def test_origin_of_what_never_ran() -> None:
    assert origin(record(platform=None, timing=None)) == "not run"


def lut(tmp_path: Path, *records: dict[str, Any]) -> Any:
    path = tmp_path / "lut.csv"
    path.write_text(to_lut(records))
    return read_lut(path)


def test_a_row_is_read_back_as_it_was_measured(tmp_path: Path) -> None:
    [row] = lut(tmp_path, record()).rows
    assert row.key == ("bert-base-cased", "fill-mask", "best-throughput", "fp16")
    assert row.config == CardConfiguration(8, 128, 2, 7, 4, ols=2, extra=("-multicast-weights",))
    assert row.published == Published(5100.25, 42.25)


def _model_of(name: str) -> str | None:
    try:
        return split_model(name)[1]
    except BadInput:
        return None


#: Hub ids, and paths of local models with all that a path may hold.
LOCAL_NAMES = st.text(st.sampled_from("ab, é%@:=^/"), max_size=9).map("/data/{}".format)
ROUND_MODELS = (
    (st.sampled_from(["bert-base-cased", "org/x"]) | LOCAL_NAMES | TEXTS).map(_model_of).filter(bool)
)
COUNTS = st.integers(1, 14)
FIGURES = st.floats(1e-3, 1e9)
ROUND_RECORDS = st.fixed_dictionaries(
    {
        **{"model": ROUND_MODELS, "task": st.sampled_from(TASKS), "objective": st.sampled_from(OBJECTIVES)},
        **dict.fromkeys(("batch_size", "seq_length", "cores", "instances"), COUNTS),
        **{"set_size": st.integers(1, 10), "ols": st.none() | COUNTS, "mos": st.none() | COUNTS},
        "extra": st.sampled_from([[], ["-multicast-weights"], ["-v", "-vtcm-working-set-limit-ratio=0.25"]]),
        **dict.fromkeys(("throughput_inf_s", "latency_ms_mean", "latency_ms_p95_raw"), FIGURES),
    }
).map(lambda values: record(**values))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(ROUND_RECORDS, max_size=5, unique_by=lambda r: (r["model"], r["task"], r["objective"])))
def test_every_result_is_read_back_with_equal_values(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    path = tmp_path / "lut.csv"
    path.write_text(render(records, "lut"))
    rows = read_lut(path).rows
    assert len(rows) == len(records)
    for row, measured in zip(rows, records, strict=True):
        assert (row.model, row.task, row.objective, row.precision) == tuple(
            measured[name] for name in ("model", "task", "objective", "precision")
        )
        for name in ("batch_size", "seq_length", "cores", "instances", "set_size", "ols", "mos"):
            assert getattr(row.config, name) == measured[name]
        assert list(row.config.extra) == measured["extra"]
        assert row.published == Published(measured["throughput_inf_s"], measured["latency_ms_p95_raw"])


def test_an_emulated_row_carries_no_figures(tmp_path: Path) -> None:
    for values in ({"platform": "emulated"}, {"timing": "modelled"}):
        [row] = lut(tmp_path, record(**values)).rows
        assert row.published is None


def test_a_card_counts_before_an_emulated_one(tmp_path: Path) -> None:
    fast = record(platform="emulated", throughput_inf_s=9e9, batch_size=1)
    [row] = lut(tmp_path, fast, record()).rows
    assert row.config.batch_size == 8


@pytest.mark.parametrize(
    ("objective", "best"), [("best-throughput", 16), ("best-latency", 1), ("balanced", 4)]
)
def test_the_objective_chooses_the_configuration(objective: str, best: int, tmp_path: Path) -> None:
    figures = {16: (1000.0, 100.0), 4: (800.0, 10.0), 1: (50.0, 1.0)}
    records = [
        record(objective=objective, batch_size=batch, throughput_inf_s=t, latency_ms_p95_raw=ms)
        for batch, (t, ms) in figures.items()
    ]
    [row] = lut(tmp_path, *records).rows
    assert row.config.batch_size == best


def test_repeats_count_by_their_median(tmp_path: Path) -> None:
    lucky = [record(repeat=n, throughput_inf_s=t) for n, t in enumerate((10.0, 10.0, 9000.0))]
    steady = [record(repeat=n, batch_size=4, throughput_inf_s=20.0) for n in range(3)]
    [row] = lut(tmp_path, *lucky, *steady).rows
    assert row.config.batch_size == 4
    assert row.published is not None
    assert row.published.inf_s == 20.0


def test_only_jobs_that_are_done_make_rows(tmp_path: Path) -> None:
    assert lut(tmp_path, record(state="failed", latency_ms_p95_raw=None, latency_ms_mean=None)).rows == ()


def test_parquet_has_every_field_as_it_is(tmp_path: Path) -> None:
    write_parquet([record(), record(state="failed")], tmp_path / "r.parquet")
    rows = pyarrow.parquet.read_table(tmp_path / "r.parquet").to_pylist()
    assert [row["state"] for row in rows] == ["done", "failed"]
    assert set(rows[0]) == set(record())


def test_parquet_without_pyarrow_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadInput, match="pip install"):
        write_parquet([record()], tmp_path / "r.parquet")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations(value: float | None, text: str) -> None:
    assert seconds(value) == text
