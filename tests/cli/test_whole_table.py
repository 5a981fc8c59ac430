"""Every row of the table, read anew from the file: what the farm makes of it, with and without options."""

from __future__ import annotations

import csv
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.cli.asking import jobs_of
from farm.data import LOOKUP_TABLE
from farm.domain.catalogue import Catalogue
from farm.domain.job import OBJECTIVES, TASKS, Job
from farm.domain.lut import read_lut
from farm.domain.names import MULTICAST, folder_name, motif
from farm.domain.options import Request
from farm.domain.plan import Plan, plan
from farm.domain.resolve import DEFAULTS

SHIPPED = read_lut(LOOKUP_TABLE)
KNOWN = Catalogue.load()
NSPS = 14
COLUMNS = {
    "batch_size": "BATCH_SIZE",
    "seq_length": "SEQUENCE_LENGTH",
    "cores": "CORES",
    "instances": "INSTANCES",
    "set_size": "SET_SIZE",
    "ols": "OLS",
    "mos": "MOS",
}


def _rows() -> dict[tuple[str, str, str], dict[str, Any]]:
    """The table's values by (model, task, objective), by nothing but the csv module."""
    found = {}
    with LOOKUP_TABLE.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            values: dict[str, Any] = {
                name: int(row[column]) if row[column].strip() else None for name, column in COLUMNS.items()
            }
            values["extra"] = tuple(row["EXTRA"].split())
            values["published"] = (float(row["THPS"]), float(row["LATENCY"]))
            found[row["MODEL_NAME"], row["TASK"], row["OBJECTIVE"]] = values
    return found


ROWS = _rows()
WITH_ROWS = sorted({(model, task) for model, task, _ in ROWS})
WITHOUT = [("nobody/nothing", task) for task in TASKS]
ASKED = st.fixed_dictionaries(
    {},
    optional={
        "batch_size": st.integers(1, 64),
        "seq_length": st.integers(1, 128),
        "cores": st.integers(1, NSPS),
        "instances": st.integers(1, NSPS),
        "set_size": st.integers(1, 10),
        "ols": st.integers(1, 8),
        "mos": st.integers(1, 16),
        "extra": st.sampled_from(["", "-mxfp6-matmul", f"{MULTICAST} -stats-level=10"]),
        "opset": st.sampled_from([16, 17]),
        "precision": st.just("fp16"),
        "seconds": st.integers(1, 100),
        "seed": st.integers(0, 9),
    },
)
LISTS = ("batch_size", "seq_length", "cores", "instances", "set_size")


def expected(
    asked: dict[str, Any], row: dict[str, Any] | None, objective: str
) -> dict[str, tuple[object, str]]:
    """Each value and its source: the user's over the row's over the default's."""
    below = row or {str(name): vars(config) for name, config in DEFAULTS.items()}[objective]
    found: dict[str, tuple[object, str]] = {}
    for name in (*COLUMNS, "extra"):
        if name in asked:
            value = tuple(asked[name].split()) if name == "extra" else asked[name]
            found[name] = (value, "user")
        else:
            found[name] = (below[name], "table" if row else "default")
    (cores, by), (instances, _) = found["cores"], found["instances"]
    assert isinstance(cores, int)
    assert isinstance(instances, int)
    if cores * instances > NSPS:
        found["instances" if by == "user" else "cores"] = (
            NSPS // (cores if by == "user" else instances),
            "derived",
        )
    return found


@settings(max_examples=300)
@given(ASKED, st.sampled_from(WITH_ROWS + WITHOUT), st.sampled_from(OBJECTIVES))
def test_the_users_flag_over_the_row_over_the_default_value_by_value(
    asked: dict[str, Any], model_and_task: tuple[str, str], objective: str
) -> None:
    if asked.get("cores", 1) * asked.get("instances", 1) > NSPS:
        del asked["instances"]
    model, task = model_and_task
    fields: dict[str, Any] = {name: (value,) if name in LISTS else value for name, value in asked.items()}
    request = Request(models=(model,), task=task, objectives=(objective,), trust_remote_code=True, **fields)
    [job] = jobs_of([request], SHIPPED, KNOWN, NSPS)
    row = ROWS.get((model, task, objective))
    want = expected(asked, row, objective)
    assert {name: (getattr(job.config, name), job.sources[name]) for name in want} == want
    for name, default in (("opset", 13), ("seconds", 20), ("seed", 0)):
        assert getattr(job, name) == asked.get(name, default)
        assert job.sources[name] == ("user" if name in asked else "default")
    assert job.sources["precision"] == ("user" if "precision" in asked else "table" if row else "default")
    exact = row is not None and all(row[name] == value for name, (value, _) in want.items())
    found = job.published and (job.published.inf_s, job.published.latency_ms)
    assert found == (row["published"] if row and exact else None)


@pytest.fixture(scope="module")
def jobs() -> list[Job]:
    """What `farm submit --all-models -o all -t all` makes, static checks included."""
    request = Request(models=SHIPPED.models, objectives=("all",), task="all", trust_remote_code=True)
    return jobs_of([request], SHIPPED, KNOWN, NSPS)


@pytest.fixture(scope="module")
def planned(jobs: list[Job]) -> Plan:
    return plan(jobs, KNOWN)


def test_every_row_is_one_job_with_its_values(jobs: list[Job]) -> None:
    assert len(jobs) == len(ROWS) == 417
    listed = set(KNOWN.listed())
    assert sum(job.model in listed for job in jobs) == 408
    for job in jobs:
        row = ROWS[job.model, job.task, job.objective]
        assert {name: getattr(job.config, name) for name in (*COLUMNS, "extra")} == {
            name: value for name, value in row.items() if name != "published"
        }


def test_every_row_is_planned_and_only_what_is_asked_alike_is_shared(planned: Plan, jobs: list[Job]) -> None:
    assert [entry.job for entry in planned.jobs] == jobs
    kinds = {stage.name: stage.kind for stage in planned.stages}
    made = {kind: [name for name, of in kinds.items() if of == kind] for kind in set(kinds.values())}
    assert len(made["run"]) == len(made["compare"]) == 417
    assert len(made["export"]) == len({(job.model, job.task) for job in jobs})
    configs = {
        (job.model, job.task, c.batch_size, c.seq_length, c.cores, c.ols, c.mos, c.extra)
        for job in jobs
        for c in [job.config]
    }
    assert len(made["compile"]) == len(configs)
    for entry in planned.jobs:
        assert {kind: kinds[name] for kind, name in entry.stages.items()} == {k: k for k in entry.stages}


def test_no_two_rows_share_a_place_in_the_working_directory(jobs: list[Job]) -> None:
    places = {(folder_name(job.model), job.task, motif(job)) for job in jobs}
    assert len(places) == len(jobs)
