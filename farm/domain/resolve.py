"""From what a user asks for to jobs: user over table over default, value by value, each with its source."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any, cast

from farm.domain.catalogue import Catalogue
from farm.domain.errors import BadInput
from farm.domain.families import check_opset, no_head
from farm.domain.job import (
    DEFAULT_OPSET,
    DEFAULT_SECONDS,
    CardConfiguration,
    Job,
    Objective,
    Route,
    Source,
    Task,
    Weights,
)
from farm.domain.lut import LookupTable, LutRow
from farm.domain.names import MULTICAST, ModelKind, require_local, show, split_model
from farm.domain.options import ALL, Request, one_of, split_extra

#: NSPs of a card nobody has looked at yet: those of the Standard SKU.
DEFAULT_NSPS = 14
DEFAULT_OBJECTIVE: Objective = "best-throughput"
DEFAULT_PRECISION = "fp16"
#: More jobs than that from one request is a slip in a list, not a campaign.
MOST_JOBS = 200_000

#: The configuration where the table has no row. Source: docs/decisions/0019-defaults.md.
DEFAULTS: Mapping[Objective, CardConfiguration] = {
    "best-throughput": CardConfiguration(8, 128, 2, 7, 4, ols=2, mos=1, extra=(MULTICAST,)),
    "best-latency": CardConfiguration(1, 128, 12, 1, 1, ols=1, mos=12, extra=(MULTICAST,)),
    "balanced": CardConfiguration(2, 128, 6, 2, 1, ols=1, mos=6, extra=(MULTICAST,)),
}

_LISTED_VALUES = ("batch_size", "seq_length", "cores", "instances", "set_size")
_SINGLE_VALUES = ("ols", "mos", "extra")

CheckExtra = Callable[[tuple[str, ...]], tuple[str, ...]]


@dataclass(frozen=True)
class _Target:
    """A model, objective and task to make configurations for, and the table's row, if it has one."""

    kind: ModelKind
    model: str
    revision: str | None
    objective: Objective
    task: Task
    task_source: Source
    row: LutRow | None


def resolve(
    request: Request,
    table: LookupTable,
    catalogue: Catalogue,
    card_nsps: int = DEFAULT_NSPS,
    check_extra: CheckExtra | None = None,
) -> list[Job]:
    """The jobs a request means, in the order models, objectives, tasks, configurations, repeats.

    card_nsps: NSPs of the cards the jobs may run on. check_extra answers compiler arguments as they are to
    be given, and raises BadInput for those that are not allowed. Raises BadInput for whatever cannot be
    right: ranges, cores x instances beyond the card, a sequence beyond the model's positions, `all` where
    the table has no row. Equal jobs are made once.
    """
    request.check()
    extra = None if request.extra is None else split_extra(request.extra)
    jobs: list[Job] = []
    for name in request.models:
        for target in _targets(name, request, table, catalogue):
            _check_family(target, request, catalogue)
            weights = _weights(target, request, catalogue)
            for config, sources in _configurations(target, request, extra, card_nsps):
                _check_length(target.model, config.seq_length, catalogue)
                if check_extra is not None:
                    config = replace(config, extra=check_extra(config.extra))
                job = _job(target, request, config, sources, weights, table.digest)
                jobs += (replace(job, repeat=n) for n in range(request.repeat))
    return unique(jobs)


def resolve_all(
    requests: Iterable[Request],
    table: LookupTable,
    catalogue: Catalogue,
    card_nsps: int = DEFAULT_NSPS,
    check_extra: CheckExtra | None = None,
) -> list[Job]:
    """The jobs of several requests, as the lines of a models file make them; equal jobs are made once."""
    return unique(
        job for request in requests for job in resolve(request, table, catalogue, card_nsps, check_extra)
    )


def unique(jobs: Iterable[Job]) -> list[Job]:
    """The jobs without those that repeat an earlier one in all but where its values came from."""
    names = [field.name for field in fields(Job) if field.name not in ("sources", "published", "lut_digest")]
    found: dict[tuple[Any, ...], Job] = {}
    for job in jobs:
        found.setdefault(tuple(getattr(job, name) for name in names), job)
    return list(found.values())


def _targets(name: str, request: Request, table: LookupTable, catalogue: Catalogue) -> Iterator[_Target]:
    kind, model, revision = split_model(name)
    require_local(kind, model)
    known_as = _name_in_table(model, table, catalogue)
    precision = request.precision or DEFAULT_PRECISION
    for objective in _objectives(name, known_as, request, table, precision):
        for task, source in _tasks(name, known_as, objective, request, table, precision):
            row = table.row(known_as, task, objective, precision)
            yield _Target(kind, model, revision, objective, task, source, row)


def _name_in_table(model: str, table: LookupTable, catalogue: Catalogue) -> str:
    """The model's name in the table: its own, else the other of its id and its canonical id."""
    facts = catalogue.get(model)
    others = (facts.model, facts.canonical) if facts else ()
    return next((name for name in (model, *others) if table.has(name)), model)


def _objectives(
    name: str, known_as: str, request: Request, table: LookupTable, precision: str
) -> tuple[Objective, ...]:
    if request.objectives is None:
        return (DEFAULT_OBJECTIVE,)
    if ALL not in request.objectives:
        return cast(tuple[Objective, ...], tuple(dict.fromkeys(request.objectives)))
    task = None if request.task == ALL else request.task
    found = table.objectives(known_as, task, precision)
    if not found:
        of = f"{show(name)} with task {task}" if task else show(name)
        raise BadInput(f"--objective all: {table.source} has no row for {of}; name {one_of(tuple(DEFAULTS))}")
    return found


def _tasks(
    name: str, known_as: str, objective: Objective, request: Request, table: LookupTable, precision: str
) -> Iterator[tuple[Task, Source]]:
    if request.task is None:
        first = table.first_task(known_as, objective, precision)
        yield (first, "table") if first else ("default", "default")
    elif request.task != ALL:
        yield cast(Task, request.task), "user"
    else:
        found = table.tasks(known_as, objective, precision)
        if not found:
            raise BadInput(
                f"--task all: {table.source} has no row for {show(name)} with {objective}; "
                "name the task or leave --task out"
            )
        yield from ((task, "table") for task in found)


def _check_family(target: _Target, request: Request, catalogue: Catalogue) -> None:
    """Refuse what no model of the family can do; of a list nobody typed, a model keeps its job and fails."""
    facts = catalogue.get(target.model) if target.kind == "hub" else None
    if facts is None or facts.remote_code:
        return
    if request.opset is not None:
        check_opset(facts.model_type, request.opset)
    reason = no_head(facts.model_type, target.task)
    if reason is not None and not request.whole_list:
        raise BadInput(f"--task {target.task}: {show(target.model)}: {reason}")


def _weights(target: _Target, request: Request, catalogue: Catalogue) -> Weights:
    if request.weights == "random":
        facts = catalogue.get(target.model) if target.kind == "hub" else None
        if facts is None:
            raise BadInput(
                f"--weights random: the shape of {show(target.model)} is not known; "
                "`farm catalog` lists the models whose shape is"
            )
        if facts.remote_code and not request.whole_list:
            raise BadInput(
                f"--weights random: {show(target.model)} is built by its own code; "
                "use --weights hub and --trust-remote-code"
            )
        return "random"
    return "hub" if target.kind == "hub" else "local"


def _configurations(
    target: _Target, request: Request, extra: tuple[str, ...] | None, card_nsps: int
) -> Iterator[tuple[CardConfiguration, dict[str, Source]]]:
    """Every combination of the values the user lists, each completed from the row, else the default."""
    base = target.row.config if target.row else DEFAULTS[target.objective]
    origin: Source = "table" if target.row else "default"
    asked: dict[str, tuple[Any, ...]] = {}
    for name in _LISTED_VALUES:
        if (listed := getattr(request, name)) is not None:
            asked[name] = listed
    for name in _SINGLE_VALUES:
        if (single := extra if name == "extra" else getattr(request, name)) is not None:
            asked[name] = (single,)
    count = math.prod(map(len, asked.values())) * request.repeat
    if count > MOST_JOBS:
        raise BadInput(
            f"these lists make {count} jobs of {show(target.model)}, more than {MOST_JOBS}; shorten them"
        )
    for choice in product(*asked.values()):
        given = dict(zip(asked, choice, strict=True))
        values = {name: getattr(base, name) for name in (*_LISTED_VALUES, *_SINGLE_VALUES)} | given
        sources: dict[str, Source] = {name: "user" if name in given else origin for name in values}
        _fit(values, sources, target, card_nsps)
        yield CardConfiguration(**values), sources


def _fit(values: dict[str, Any], sources: dict[str, Source], target: _Target, card_nsps: int) -> None:
    """Make cores x instances fit the card: the one of the two the user left open gives way."""
    for name in ("cores", "instances"):
        if values[name] > card_nsps and sources[name] == "user":
            raise BadInput(
                f"--{name} {values[name]} is out of range; allowed: 1 to the card's {card_nsps} NSPs"
            )
    needed = values["cores"] * values["instances"]
    if needed <= card_nsps:
        return
    given = [name for name in ("cores", "instances") if sources[name] == "user"]
    if len(given) == 1:
        other = "instances" if given == ["cores"] else "cores"
        values[other] = card_nsps // values[given[0]]
        sources[other] = "derived"
        return
    origin = f"line {target.row.line} of the table" if target.row else "the default"
    where = "" if given else f" ({origin})"
    raise BadInput(
        f"{show(target.model)}: cores {values['cores']} x instances {values['instances']}{where} = {needed} "
        f"exceeds the card's {card_nsps} NSPs; lower --cores or --instances"
    )


def _check_length(model: str, seq_length: int, catalogue: Catalogue) -> None:
    limit = catalogue.usable_positions(model)
    if limit is not None and seq_length > limit:
        raise BadInput(f"--seq-length {seq_length}: {model} takes at most {limit} tokens")


def _job(
    target: _Target,
    request: Request,
    config: CardConfiguration,
    sources: dict[str, Source],
    weights: Weights,
    lut_digest: str,
) -> Job:
    row = target.row
    said = {
        **{n: getattr(request, n) is not None for n in ("opset", "seconds", "seed", "min_cosine", "devices")},
        "objective": request.objectives is not None,
        "route": request.route != "runner",
        "run_only": request.run_only,
        "trust_remote_code": request.trust_remote_code,
    }
    single_sources: dict[str, Source] = {name: "user" if user else "default" for name, user in said.items()}
    precision_source: Source = "table" if row else "default"
    return Job(
        model=target.model,
        task=target.task,
        objective=target.objective,
        config=config,
        revision=target.revision,
        weights=weights,
        precision=request.precision or DEFAULT_PRECISION,
        opset=DEFAULT_OPSET if request.opset is None else request.opset,
        seed=request.seed or 0,
        seconds=request.seconds or DEFAULT_SECONDS,
        route=cast(Route, request.route),
        min_cosine=0.99 if request.min_cosine is None else request.min_cosine,
        trust_remote_code=request.trust_remote_code,
        run_only=request.run_only,
        devices=request.devices,
        lut_digest=lut_digest,
        published=row.published if row and row.config == config else None,
        sources=sources
        | single_sources
        | {
            "precision": precision_source if request.precision is None else "user",
            "task": target.task_source,
        },
    )
