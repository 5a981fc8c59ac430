"""Resolution: the user's values over the table's over the defaults, value by value."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.data import LOOKUP_TABLE
from farm.domain.catalogue import Catalogue
from farm.domain.errors import BadInput
from farm.domain.job import OBJECTIVES, CardConfiguration, Job
from farm.domain.lut import LookupTable, LutRow, read_lut
from farm.domain.names import MULTICAST
from farm.domain.options import Request
from farm.domain.resolve import DEFAULTS, resolve, resolve_all

VALUES = ("batch_size", "seq_length", "cores", "instances", "set_size", "ols", "mos", "extra")
SHIPPED = read_lut(LOOKUP_TABLE)
KNOWN = Catalogue.load()


def ask(model: str = "bert-base-cased", **asked: Any) -> list[Job]:
    return resolve(Request(models=(model,), **asked), SHIPPED, KNOWN)


def one(model: str = "bert-base-cased", **asked: Any) -> Job:
    [job] = ask(model, **asked)
    return job


def own(base: LutRow, **changes: Any) -> LookupTable:
    return LookupTable((replace(base, config=replace(base.config, **changes)),), "own.csv", "0" * 64)


def test_every_row_of_the_table_resolves_to_its_own_values() -> None:
    for row in SHIPPED.rows:
        job = one(row.model, objectives=(row.objective,), task=row.task)
        assert job.config == row.config
        assert job.published == row.published
        assert job.lut_digest == SHIPPED.digest
        assert {job.sources[name] for name in (*VALUES, "precision")} == {"table"}
        assert job.sources["task"] == "user"
        assert {job.sources[name] for name in ("opset", "seconds", "seed")} == {"default"}


def test_all_objectives_and_tasks_of_all_models_are_the_rows_of_the_table() -> None:
    request = Request(models=SHIPPED.models, objectives=("all",), task="all")
    jobs = resolve(request, SHIPPED, KNOWN)
    found = {(job.model, job.task, job.objective, job.precision) for job in jobs}
    assert found == {row.key for row in SHIPPED.rows}
    assert len(jobs) == 417
    assert {job.sources["task"] for job in jobs} == {"table"}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_model_without_a_row_gets_the_defaults(objective: str) -> None:
    job = one("nobody/nothing", objectives=(objective,))
    assert job.config == DEFAULTS[job.objective]
    assert job.task == "default"
    assert job.published is None
    assert {name for name, source in job.sources.items() if source != "default"} == {"objective"}


def test_the_defaults() -> None:
    assert {
        "best-throughput": CardConfiguration(8, 128, 2, 7, 4, 2, 1, (MULTICAST,)),
        "best-latency": CardConfiguration(1, 128, 12, 1, 1, 1, 12, (MULTICAST,)),
        "balanced": CardConfiguration(2, 128, 6, 2, 1, 1, 6, (MULTICAST,)),
    } == DEFAULTS


def test_what_nobody_asks_for() -> None:
    job = one()
    assert (job.objective, job.opset, job.seconds, job.seed, job.precision) == (
        "best-throughput",
        13,
        20,
        0,
        "fp16",
    )
    assert (job.route, job.weights, job.min_cosine, job.repeat) == ("runner", "hub", 0.99, 0)
    assert (job.devices, job.revision, job.run_only, job.trust_remote_code) == (None, None, False, False)


class TestTask:
    def test_without_one_it_is_that_of_the_first_row_of_model_and_objective(self) -> None:
        job = one("bert-base-cased", objectives=("best-latency",))
        assert (job.task, job.sources["task"]) == ("question-answering", "table")

    def test_else_that_of_the_first_row_of_the_model(self) -> None:
        job = one("intfloat/e5-large", objectives=("best-latency",))
        assert (job.task, job.sources["task"]) == ("sentence-similarity", "table")
        assert job.config == DEFAULTS["best-latency"]
        assert job.sources["batch_size"] == "default"

    def test_one_without_a_row_takes_the_defaults(self) -> None:
        job = one("bert-base-cased", task="text-classification")
        assert (job.task, job.sources["task"], job.sources["cores"]) == (
            "text-classification",
            "user",
            "default",
        )

    def test_all_is_the_tasks_with_rows_of_the_objective(self) -> None:
        jobs = ask("bert-base-cased", task="all", objectives=("balanced",))
        assert [job.task for job in jobs] == ["question-answering", "fill-mask"]

    def test_all_objectives_are_those_with_rows(self) -> None:
        assert len(ask("bert-base-cased", objectives=("all",))) == 3
        assert [job.objective for job in ask("intfloat/e5-large", objectives=("all",))] == ["best-throughput"]
        assert len(ask("bert-base-cased", objectives=("all",), task="fill-mask")) == 3

    @pytest.mark.parametrize(
        ("model", "asked"),
        [
            ("nobody/nothing", {"objectives": ("all",)}),
            ("nobody/nothing", {"task": "all"}),
            ("bert-base-cased", {"objectives": ("all",), "task": "default"}),
            ("intfloat/e5-large", {"objectives": ("balanced",), "task": "all"}),
        ],
    )
    def test_all_of_nothing_is_refused(self, model: str, asked: dict[str, Any]) -> None:
        with pytest.raises(BadInput, match="has no row for"):
            ask(model, **asked)


class TestFit:
    def test_the_other_gives_way_when_only_one_is_given(self) -> None:
        job = one("nobody/nothing", cores=(4,))
        assert (job.config.cores, job.config.instances) == (4, 3)
        assert (job.sources["cores"], job.sources["instances"]) == ("user", "derived")
        job = one("nobody/nothing", instances=(14,))
        assert (job.config.cores, job.config.instances) == (1, 14)
        assert (job.sources["cores"], job.sources["instances"]) == ("derived", "user")

    def test_what_fits_is_left_alone(self) -> None:
        job = one("nobody/nothing", cores=(1,))
        assert (job.config.cores, job.config.instances) == (1, 7)
        assert job.sources["instances"] == "default"

    def test_both_given_and_too_many_is_refused(self) -> None:
        with pytest.raises(BadInput, match="cores 4 x instances 4 = 16 exceeds the card's 14 NSPs"):
            one(cores=(4,), instances=(4,))

    def test_one_beyond_the_card_is_refused(self) -> None:
        with pytest.raises(
            BadInput, match="--instances 15 is out of range; allowed: 1 to the card's 14 NSPs"
        ):
            one(instances=(15,))

    def test_a_larger_card_takes_more_and_a_smaller_one_less(self) -> None:
        request = Request(models=("bert-base-cased",), cores=(4,), instances=(4,))
        [job] = resolve(request, SHIPPED, KNOWN, card_nsps=16)
        assert job.config.cores_needed == 16
        with pytest.raises(BadInput, match=r"line \d+ of the table.*card's 12 NSPs"):
            resolve(Request(models=("bert-base-cased",)), SHIPPED, KNOWN, card_nsps=12)

    @given(st.integers(1, 20), st.none() | st.integers(1, 20), st.none() | st.integers(1, 20), st.booleans())
    def test_no_job_exceeds_the_card(
        self, nsps: int, cores: int | None, instances: int | None, row: bool
    ) -> None:
        request = Request(
            models=("bert-base-cased" if row else "nobody/nothing",),
            cores=None if cores is None else (cores,),
            instances=None if instances is None else (instances,),
        )
        alone = (cores is None) != (instances is None) and (cores or instances or 0) <= nsps
        try:
            [job] = resolve(request, SHIPPED, KNOWN, card_nsps=nsps)
        except BadInput:
            assert not alone
            return
        assert job.config.cores_needed <= nsps
        assert cores in (None, job.config.cores)
        assert instances in (None, job.config.instances)


class TestPublished:
    def test_a_user_s_value_equal_to_the_row_s_keeps_the_figures(self) -> None:
        plain = one()
        assert one(batch_size=(plain.config.batch_size,)).published == plain.published

    def test_any_other_value_drops_them(self) -> None:
        assert one(set_size=(9,)).published is None
        assert one(extra="").published is None
        assert one(mos=16).published is None

    def test_blank_values_of_a_row_leave_the_flags_out(self) -> None:
        row = SHIPPED.rows[20]
        table = own(row, ols=None, mos=None, extra=())
        [job] = resolve(Request(models=(row.model,), task=row.task), table, KNOWN)
        assert (job.config.ols, job.config.mos, job.config.extra) == (None, None, ())
        assert {job.sources[name] for name in ("ols", "mos", "extra")} == {"table"}
        assert job.published == row.published


class TestModels:
    def test_a_canonical_id_finds_the_rows_of_the_model(self) -> None:
        job = one("google-bert/bert-base-cased")
        assert job.model == "google-bert/bert-base-cased"
        assert job.config == one("bert-base-cased").config
        assert job.sources["cores"] == "table"

    def test_a_revision_is_kept_apart(self) -> None:
        job = one("bert-base-cased@main")
        assert (job.model, job.revision, job.sources["cores"]) == ("bert-base-cased", "main", "table")

    def test_local_models(self, tmp_path: Path) -> None:
        (tmp_path / "model.onnx").touch()
        for path in (tmp_path, tmp_path / "model.onnx"):
            job = one(str(path))
            assert (job.model, job.weights, job.revision) == (str(path), "local", None)
        with pytest.raises(BadInput, match="no such folder"):
            one(str(tmp_path / "gone"))

    def test_random_weights_need_a_known_shape(self, tmp_path: Path) -> None:
        assert one(weights="random").weights == "random"
        assert one("google-bert/bert-base-cased", weights="random").weights == "random"
        for model in ("nobody/nothing", str(tmp_path)):
            with pytest.raises(BadInput, match="the shape of"):
                one(model, weights="random")

    def test_random_weights_of_a_model_with_its_own_code_are_refused_where_it_was_named(self) -> None:
        model = "jinaai/jina-embeddings-v2-base-code"
        assert one(model, trust_remote_code=True).weights == "hub"
        with pytest.raises(BadInput, match="own code; use --weights hub and --trust-remote-code"):
            one(model, weights="random")
        assert one(model, weights="random", whole_list=True).weights == "random"

    @pytest.mark.parametrize("name", ["../x", ";rm", ""])
    def test_hostile_names_are_refused(self, name: str) -> None:
        with pytest.raises(BadInput, match="is not a model name"):
            one(name)

    def test_a_sequence_beyond_the_positions_is_refused(self) -> None:
        assert one("vinai/bertweet-base", seq_length=(128,)).config.seq_length == 128
        with pytest.raises(BadInput, match="--seq-length 129: vinai/bertweet-base takes at most 128 tokens"):
            one("vinai/bertweet-base", seq_length=(129,))
        assert one("nobody/nothing", seq_length=(4096,)).config.seq_length == 4096
        assert one("sentence-transformers/gtr-t5-large", seq_length=(4096,)).config.seq_length == 4096


class TestMany:
    def test_lists_multiply(self) -> None:
        jobs = ask(batch_size=(1, 2), seq_length=(64, 128), cores=(1, 2), instances=(1,), set_size=(1, 2))
        assert len({job.config for job in jobs}) == len(jobs) == 16

    def test_repeats_are_numbered(self) -> None:
        assert [job.repeat for job in ask(repeat=3)] == [0, 1, 2]

    def test_equal_jobs_are_made_once(self) -> None:
        assert len(ask(batch_size=(8, 8, 4))) == 2
        request = Request(models=("bert-base-cased", "bert-base-cased"))
        assert len(resolve(request, SHIPPED, KNOWN)) == 1
        spelled = replace(request, batch_size=(one().config.batch_size,))
        assert len(resolve_all([request, spelled], SHIPPED, KNOWN)) == 1
        assert len(resolve_all([request, replace(request, seed=1)], SHIPPED, KNOWN)) == 2

    def test_derived_values_that_coincide_are_one_job(self) -> None:
        jobs = ask("nobody/nothing", cores=(5, 6, 7))
        assert [(job.config.cores, job.config.instances) for job in jobs] == [(5, 2), (6, 2), (7, 2)]

    def test_order_is_that_of_the_request(self) -> None:
        request = Request(models=("roberta-base", "albert-base-v2"), objectives=("best-latency", "balanced"))
        jobs = resolve(request, SHIPPED, KNOWN)
        assert [(job.model, job.objective) for job in jobs] == [
            ("roberta-base", "best-latency"),
            ("roberta-base", "balanced"),
            ("albert-base-v2", "best-latency"),
            ("albert-base-v2", "balanced"),
        ]


def test_compiler_arguments_are_checked_wherever_they_come_from() -> None:
    request = Request(models=("bert-base-cased",), extra="-a 'b c'")

    def spell(extra: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(flag.upper() for flag in extra)

    [job] = resolve(request, SHIPPED, KNOWN, check_extra=spell)
    assert job.config.extra == ("-A", "B C")
    [job] = resolve(Request(models=("bert-base-cased",)), SHIPPED, KNOWN, check_extra=spell)
    assert job.config.extra == (MULTICAST.upper(),)

    def refuse(extra: tuple[str, ...]) -> tuple[str, ...]:
        raise BadInput(f"{extra[0]} is not allowed")

    with pytest.raises(BadInput, match="-a is not allowed"):
        resolve(request, SHIPPED, KNOWN, check_extra=refuse)
