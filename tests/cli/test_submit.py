"""`farm submit`: what becomes of what was typed, with and without a farm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from farm.data import LOOKUP_TABLE
from farm.domain.catalogue import Catalogue
from farm.domain.lut import read_lut
from farm.records import Records, keys
from tests.cli.conftest import Invoke

VALUES = (
    *("batch_size", "seq_length", "cores", "instances", "set_size", "ols", "mos", "extra"),
    *("opset", "seconds", "seed", "precision", "route"),
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A current folder without a look-up table of its own."""
    monkeypatch.chdir(tmp_path)


def dry(invoke: Invoke, *words: str) -> list[dict[str, Any]]:
    result = invoke("submit", *words, "--dry-run", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert set(document) == {"jobs"}
    jobs: list[dict[str, Any]] = document["jobs"]
    return jobs


def test_all_models_all_objectives_all_tasks_are_the_rows_of_the_table(invoke: Invoke) -> None:
    jobs = dry(invoke, "--all-models", "-o", "all", "-t", "all")
    rows = read_lut(LOOKUP_TABLE).rows
    assert len(jobs) == len(rows)
    by_key = {(job["model"], job["task"], job["objective"]): job for job in jobs}
    for row in rows:
        job = by_key[row.model, row.task, row.objective]
        assert job["batch_size"] == row.config.batch_size
        assert (job["cores"], job["instances"]) == (row.config.cores, row.config.instances)
        assert (job["ols"], job["mos"], job["extra"]) == (
            row.config.ols,
            row.config.mos,
            list(row.config.extra),
        )
        assert {job["sources"][name] for name in VALUES[:8]} == {"table"}


def test_with_random_weights_it_is_408_rows_of_the_listed_models_and_nine_of_the_others(
    invoke: Invoke,
) -> None:
    jobs = dry(invoke, "--all-models", "-o", "all", "-t", "all", "--weights", "random")
    listed = set(Catalogue.load().listed())
    assert sum(job["model"] in listed for job in jobs) == 408
    others = [job["model"] for job in jobs if job["model"] not in listed]
    assert len(others) == len(set(others)) == 9
    assert {job["weights"] for job in jobs} == {"random"}
    plain = dry(invoke, "--all-models", "-o", "all", "-t", "all")
    named = invoke("submit", "-m", "jinaai/jina-embeddings-v2-base-code", "--weights", "random", "--dry-run")
    assert (named.exit_code, named.stderr.count("\n")) == (2, 1)
    assert [{**job, "weights": "hub"} for job in jobs] == plain


def test_a_dry_run_names_every_value_and_its_source(invoke: Invoke) -> None:
    for job in dry(invoke, "--all-models"):
        assert {"model", "task", "objective", "sources", *VALUES} <= set(job)
        assert set(job["sources"].values()) <= {"user", "table", "default", "derived"}
        assert set(VALUES[:8]) <= set(job["sources"])


def test_listed_is_the_eighty(invoke: Invoke) -> None:
    listed = [job["model"] for job in dry(invoke, "--listed")]
    assert len(set(listed)) == 80
    assert set(listed) == set(Catalogue.load().listed())


def test_the_users_value_comes_first(invoke: Invoke) -> None:
    [job] = dry(invoke, "-m", "bert-base-cased", "-b", "3", "--seed", "0", "--time", "5", "--extra", "")
    assert (job["batch_size"], job["seed"], job["seconds"], job["extra"]) == (3, 0, 5, [])
    for name in ("batch_size", "seed", "seconds", "extra"):
        assert job["sources"][name] == "user"
    assert job["sources"]["seq_length"] == "table"
    assert job["published_inf_s"] is None


def test_lists_are_a_cross_product_however_they_are_written(invoke: Invoke) -> None:
    comma = dry(invoke, "-m", "bert-base-cased", "-b", "1,2", "-s", "64,128", "--set-size", "1")
    repeated = dry(
        invoke, "-m", "bert-base-cased", "-b", "1", "-b", "2", "-s", "64", "-s", "128", "--set-size", "1"
    )
    assert [(job["batch_size"], job["seq_length"]) for job in comma] == [(1, 64), (1, 128), (2, 64), (2, 128)]
    in_a_row = dry(invoke, "-b", "1", "2", "-m", "bert-base-cased", "--set-size", "1", "-s", "64", "128")
    assert comma == repeated == in_a_row


def test_models_and_objectives_may_stand_in_a_row(invoke: Invoke) -> None:
    jobs = dry(
        invoke, "-m", "bert-base-cased", "albert-base-v2", "-o", "balanced", "best-latency", "--time", "5"
    )
    assert [(job["model"], job["objective"]) for job in jobs] == [
        (model, objective)
        for model in ("bert-base-cased", "albert-base-v2")
        for objective in ("balanced", "best-latency")
    ]
    stray = invoke("submit", "-m", "bert-base-cased", "--time", "5", "6", "--dry-run")
    assert (stray.exit_code, "'6'" in stray.stderr or "(6)" in stray.stderr) == (2, True)


def test_a_models_file_and_the_command_line_together(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "models.txt").write_text("# two\nbert-base-cased -b 4\n\nalbert-base-v2  # plain\n")
    first, second = dry(invoke, "--models-file", "models.txt", "--time", "7")
    assert (first["model"], first["batch_size"], first["seconds"]) == ("bert-base-cased", 4, 7)
    assert (second["model"], second["seconds"]) == ("albert-base-v2", 7)


def test_a_table_in_the_current_folder_is_used(invoke: Invoke, tmp_path: Path) -> None:
    header, row = LOOKUP_TABLE.read_text().splitlines()[:2]
    (tmp_path / "lut_nlp_models.csv").write_text(f"{header}\n{row}\n")
    assert len(dry(invoke, "--all-models", "-o", "all", "-t", "all")) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["-m", "../x"],
        ["-m", ";rm -rf x"],
        ["-m", "bert-base-cased", "-b", "0"],
        ["-m", "bert-base-cased", "-b", "two"],
        ["-m", "bert-base-cased", "-c", "8", "-i", "2"],
        ["-m", "bert-base-cased", "-s", "513"],
        ["-m", "bert-base-cased", "--set-size", "11"],
        ["-m", "bert-base-cased", "-t", "translation"],
        ["-m", "bert-base-cased", "-o", "fastest"],
        ["-m", "bert-base-cased", "--extra", "-aic-binary-dir=/tmp"],
        ["-m", "bert-base-cased", "--extra", "-multicast-weights -multicast-weights"],
        ["-m", "bert-base-cased", "--extra", "$(reboot)"],
        ["-m", "bert-base-cased", "--devices", "7-0"],
        ["-m", "bert-base-cased", "--listed"],
        ["-m", "bert-base-cased", "--priority", "10"],
        ["--models-file", "missing.txt"],
        ["-m", "bert-base-cased", "--lut", "missing.csv"],
    ],
    ids=" ".join,
)
def test_bad_input_is_refused_in_one_line_before_any_farm_is_asked(words: list[str], invoke: Invoke) -> None:
    result = invoke("submit", *words)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("farm: ")
    assert result.stderr.count("\n") == 1


def test_a_table_for_the_human_marks_the_sources(invoke: Invoke) -> None:
    result = invoke("submit", "-m", "bert-base-cased", "-b", "3", "--dry-run")
    assert "3 u" in result.stdout
    assert "128 t" in result.stdout


def test_submitting_prints_the_id_and_without_a_coordinator_warns(farm: Invoke, records: Records) -> None:
    result = farm("submit", "-m", "bert-base-cased", "-o", "all", "--label", "mine", "--priority", "3")
    assert result.exit_code == 0, result.stderr
    [campaign] = records.campaigns()
    assert result.stdout == f"{campaign['campaign']}\n"
    assert "no coordinator" in result.stderr
    assert (campaign["label"], campaign["priority"], campaign["jobs"]["total"]) == ("mine", 3, 3)


def test_submit_json(farm: Invoke, records: Records) -> None:
    records.fleet.tick("test")
    result = farm("submit", "-m", "bert-base-cased", "--json")
    assert json.loads(result.stdout) == {"campaign": records.latest(), "jobs": 1}
    assert result.stderr == ""


def test_waiting_without_a_coordinator_is_exit_3_and_the_campaign_is_recorded(
    farm: Invoke, records: Records
) -> None:
    result = farm("submit", "-m", "bert-base-cased", "--wait")
    assert result.exit_code == 3
    assert result.stdout.strip() == records.latest()


def test_the_recorded_command_holds_no_url(farm: Invoke, records: Records) -> None:
    assert farm("submit", "-m", "bert-base-cased").exit_code == 0
    campaign = records.latest()
    assert campaign is not None
    command = json.loads(records.client.hget(keys.campaign(campaign), "command") or "[]")
    assert command == ["farm", "submit", "-m", "bert-base-cased"]


@pytest.mark.parametrize("words", [("--extra", "-multicast-weights"), ("--extra=-multicast-weights",)])
def test_extra_takes_a_word_that_begins_with_a_dash(invoke: Invoke, words: tuple[str, ...]) -> None:
    [found] = dry(invoke, "-m", "bert-base-cased", *words, "-b", "1")
    assert (found["extra"], found["batch_size"]) == (["-multicast-weights"], 1)
