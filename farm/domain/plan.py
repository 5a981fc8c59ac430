"""The plan of a submission: jobs turned into a graph of stages, shared where what is asked is the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from farm.domain.catalogue import Catalogue, ModelFacts
from farm.domain.digest import digest
from farm.domain.job import Job, StageKind
from farm.domain.sizes import GIB

# Rough seconds, only to start the longest first; a model the catalogue lacks counts as base-size.
_BASE_PARAMS = 110_000_000
_EXPORT_S, _EXPORT_S_PER_PARAM = 3.0, 6e-8
_COMPILE_S, _COMPILE_S_PER_PARAM = 10.0, 3e-7
_CPU_FLOPS = 50e9
_PREPARE_S, _LOAD_S_PER_PARAM = 1.0, 2e-9
_BASE_WIDTH = 30_522
_WEIGHT_BYTES = 4


class Need(NamedTuple):
    """What a stage takes while it is claimed, bytes: memory of its node, and room in the store."""

    memory: int = 0
    store: int = 0


NOTHING = Need()


@dataclass(frozen=True)
class Stage:
    """A node of the graph. Two stages of one name are the same: the name digests what is asked and needed.

    needs: stages that must be done before. model_rank: the model's place in the submission, for finishing
    one model before the next is begun. expected_s: a rough guess at its duration in seconds. need: a guess at
    what it takes; nothing for a run (the card's host) and a compare (little). found: its outcome, of a stage
    that is done before the campaign begins.
    """

    name: str
    kind: StageKind
    ask: Mapping[str, Any]
    needs: tuple[str, ...]
    model_rank: int
    expected_s: float
    need: Need = NOTHING
    found: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class PlannedJob:
    """A job and its stages by kind."""

    job: Job
    stages: Mapping[StageKind, str]


@dataclass(frozen=True)
class Plan:
    """Jobs in the order asked, and their stages, each once and after those it needs."""

    jobs: tuple[PlannedJob, ...]
    stages: tuple[Stage, ...]

    def with_found(self, outcomes: Mapping[str, Mapping[str, Any]]) -> Plan:
        """The plan with these stages done, by name: their artifacts are there already."""
        return replace(self, stages=tuple(replace(s, found=outcomes.get(s.name)) for s in self.stages))


def plan(jobs: Iterable[Job], catalogue: Catalogue | None = None) -> Plan:
    """The graph `export -> compile -> run`, `export -> reference`, `{run, reference} -> compare` of the jobs.

    The catalogue (the shipped one unless given) tells the shape of models with random weights, and sizes.
    """
    planner = _Planner(catalogue or Catalogue.load())
    planned = tuple(PlannedJob(job, planner.stages_of(job)) for job in jobs)
    return Plan(planned, tuple(planner.stages.values()))


class _Planner:
    def __init__(self, catalogue: Catalogue) -> None:
        self.stages: dict[str, Stage] = {}
        self._catalogue = catalogue
        self._ranks: dict[str, int] = {}

    def stages_of(self, job: Job) -> dict[StageKind, str]:
        rank = self._ranks.setdefault(job.model, len(self._ranks))
        facts = self._catalogue.get(job.model)
        config = job.config
        params = facts.params if facts else _BASE_PARAMS
        export_s = _EXPORT_S + params * _EXPORT_S_PER_PARAM
        compile_s = _COMPILE_S + params * _COMPILE_S_PER_PARAM
        reference_s = export_s / 2 + 2 * params * config.batch_size * config.seq_length / _CPU_FLOPS
        run_s = job.seconds + _PREPARE_S + params * _LOAD_S_PER_PARAM * config.instances
        weights = params * _WEIGHT_BYTES
        outputs = config.batch_size * config.seq_length * _output_width(job, facts) * 4

        existing = {"must_exist": True} if job.run_only else {}
        shape = {"batch_size": config.batch_size, "seq_length": config.seq_length}
        export = self._add(
            "export", _export_ask(job, facts) | existing, (), rank, export_s, _export_need(weights)
        )
        reference = self._add(
            "reference",
            {"export": export, **shape, "seed": job.seed},
            (export,),
            rank,
            reference_s,
            _reference_need(weights, outputs),
        )
        compiled = self._add(
            "compile",
            {
                **shape,
                "cores": config.cores,
                "ols": config.ols,
                "mos": config.mos,
                "extra": list(config.extra),
                "precision": job.precision,
            }
            | existing,
            (export,),
            rank,
            compile_s,
            _compile_need(weights),
        )
        run = self._add("run", {"job": job.to_json()}, (compiled,), rank, run_s)
        verdict = {"min_cosine": job.min_cosine, "numerics_only": job.weights == "random"}
        compare = self._add("compare", verdict, (run, reference), rank, 1.0)
        return {"export": export, "reference": reference, "compile": compiled, "run": run, "compare": compare}

    def _add(
        self,
        kind: StageKind,
        ask: Mapping[str, Any],
        needs: tuple[str, ...],
        rank: int,
        expected_s: float,
        need: Need = NOTHING,
    ) -> str:
        name = f"{kind}-{digest([ask, needs], 12)}"
        if name not in self.stages:
            self.stages[name] = Stage(name, kind, ask, needs, rank, round(expected_s, 3), need)
        return name


def _output_width(job: Job, facts: ModelFacts | None) -> int:
    """Values a token of the largest output: a masked-language head's vocabulary, else the hidden size."""
    if facts is None:
        return _BASE_WIDTH
    return facts.vocab if job.task == "fill-mask" else facts.hidden


# Peaks measured (docs/benchmarks.md): an export 1 GiB and up to 2.2 times its weights, a reference 0.3 GiB
# and its weights once, the emulated compiler next to nothing. The SDK's compiler: "a few GB" (docs/sdk.md).


def _export_need(weights: int) -> Need:
    """The graph and its clipped twin are kept."""
    return Need(GIB + 5 * weights // 2, 2 * weights)


def _reference_need(weights: int, outputs: int) -> Need:
    return Need(GIB // 2 + 3 * weights // 2 + 2 * outputs, outputs)


def _compile_need(weights: int) -> Need:
    """The program holds the weights in half precision."""
    return Need(GIB // 2 + 3 * weights, 3 * weights // 5)


def _export_ask(job: Job, facts: ModelFacts | None) -> dict[str, Any]:
    """What an export is asked for; the revision as the user named it, resolved by the worker."""
    ask: dict[str, Any] = {
        "model": job.model,
        "revision": job.revision,
        "weights": job.weights,
        "task": job.task,
        "opset": job.opset,
        "opset_source": job.sources.get("opset", "default"),
        "seed": job.seed,
        "trust_remote_code": job.trust_remote_code,
    }
    if job.weights == "random" and facts is not None:
        ask["architecture"] = facts.architecture_facts()
    return ask
