"""The plan: a graph that is complete, ordered, and shares what is asked twice."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from farm.domain.catalogue import Catalogue
from farm.domain.job import STAGE_KINDS, CardConfiguration, Job
from farm.domain.lut import LookupTable
from farm.domain.options import Request
from farm.domain.plan import Plan, Stage, plan
from farm.domain.resolve import resolve
from tests.domain.strategies import JOBS

JOB = Job("bert-base-cased", "fill-mask", "balanced", CardConfiguration(8, 128, 2, 7, 4, 2, 1, ("-x",)))


def of_kind(made: Plan, kind: str) -> list[Stage]:
    return [stage for stage in made.stages if stage.kind == kind]


def stage(made: Plan, kind: str) -> Stage:
    [found] = of_kind(made, kind)
    return found


def test_the_graph_of_a_job() -> None:
    made = plan([JOB])
    name = {kind: stage(made, kind).name for kind in STAGE_KINDS}
    assert {kind: stage(made, kind).needs for kind in STAGE_KINDS} == {
        "export": (),
        "reference": (name["export"],),
        "compile": (name["export"],),
        "run": (name["compile"],),
        "compare": (name["run"], name["reference"]),
    }
    [planned] = made.jobs
    assert planned.job is JOB
    assert planned.stages == name


def test_what_is_asked() -> None:
    made = plan([replace(JOB, revision="main", seed=3, sources={"opset": "user"})])
    assert stage(made, "export").ask == {
        "model": "bert-base-cased",
        "revision": "main",
        "weights": "hub",
        "task": "fill-mask",
        "opset": 13,
        "opset_source": "user",
        "seed": 3,
        "trust_remote_code": False,
    }
    export = stage(made, "export").name
    assert stage(made, "reference").ask == {"export": export, "batch_size": 8, "seq_length": 128, "seed": 3}
    assert stage(made, "compile").ask == {
        "batch_size": 8,
        "seq_length": 128,
        "cores": 2,
        "ols": 2,
        "mos": 1,
        "extra": ["-x"],
        "precision": "fp16",
    }
    assert Job.from_json(stage(made, "run").ask["job"]) == made.jobs[0].job
    assert stage(made, "compare").ask == {"min_cosine": 0.99, "numerics_only": False}


def test_random_weights_bring_the_shape_along() -> None:
    made = plan([replace(JOB, weights="random")])
    assert stage(made, "export").ask["architecture"]["hidden_size"] == 768
    assert stage(made, "compare").ask["numerics_only"] is True


def test_run_only_asks_for_what_exists() -> None:
    made = plan([replace(JOB, run_only=True)])
    assert stage(made, "export").ask["must_exist"] is True
    assert stage(made, "compile").ask["must_exist"] is True
    assert not {s.name for s in made.stages} & {s.name for s in plan([JOB]).stages}


def test_jobs_share_what_they_ask_alike() -> None:
    config = JOB.config
    made = plan([
        JOB,
        replace(JOB, repeat=1),
        replace(JOB, config=replace(config, set_size=1)),
        replace(JOB, config=replace(config, instances=1), objective="best-latency"),
        replace(JOB, config=replace(config, cores=1)),
        replace(JOB, config=replace(config, batch_size=1)),
        replace(JOB, task="default"),
    ])  # fmt: skip
    counts = {kind: len(of_kind(made, kind)) for kind in STAGE_KINDS}
    assert counts == {"export": 2, "reference": 3, "compile": 4, "run": 7, "compare": 7}


def test_the_listed_models_share_exports(table: LookupTable, catalogue: Catalogue) -> None:
    request = Request(models=table.models, objectives=("all",), task="all")
    made = plan(resolve(request, table, catalogue))
    assert len(of_kind(made, "run")) == 417
    assert len(of_kind(made, "export")) == len({(row.model, row.task) for row in table.rows})
    assert [s.model_rank for s in of_kind(made, "export")] == sorted(
        s.model_rank for s in of_kind(made, "export")
    )


def test_longer_and_larger_is_expected_to_take_longer() -> None:
    def expected(job: Job, kind: str) -> float:
        return stage(plan([job]), kind).expected_s

    large = replace(JOB, model="bert-large-uncased")
    assert expected(large, "export") > expected(JOB, "export") > 0
    assert expected(large, "compile") > expected(JOB, "compile") > 0
    assert expected(replace(JOB, seconds=60), "run") > expected(JOB, "run") >= JOB.seconds
    assert expected(replace(JOB, model="nobody/nothing"), "run") >= JOB.seconds


@given(st.lists(JOBS, max_size=5))
def test_a_plan_is_sound(jobs: list[Job]) -> None:
    made = plan(jobs)
    seen: set[str] = set()
    for each in made.stages:
        assert set(each.needs) <= seen
        assert each.name.startswith(f"{each.kind}-")
        assert each.name not in seen
        assert json.loads(json.dumps(each.ask)) == each.ask or each.kind == "run"
        seen.add(each.name)
    assert [planned.job for planned in made.jobs] == jobs
    assert {name for planned in made.jobs for name in planned.stages.values()} == seen
    assert made == plan([Job.from_json(json.loads(json.dumps(job.to_json()))) for job in jobs])
