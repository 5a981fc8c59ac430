"""`farm catalog`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from farm.cli.context import console, json_option, note, print_json
from farm.domain.errors import BadInput

if TYPE_CHECKING:
    from farm.domain.catalogue import Catalogue
    from farm.domain.job import Job, Objective
    from farm.domain.lut import LookupTable
    from farm.report.grid import Grid

_COUNT = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)([kmgb]?)", re.IGNORECASE)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}


class Count(click.ParamType[int]):
    """A count of parameters: 110000000, 110M, 1.5G (or B, as papers write it)."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The count, at least 1; raises BadInput."""
        match = _COUNT.fullmatch(str(value).strip())
        count = round(float(match[1]) * _UNITS[match[2].lower()]) if match else 0
        if count < 1:
            raise BadInput(f"--max-params {value!r} is no count of parameters; write it like 110M or 1.5G")
        return count


@click.command("catalog")
@click.argument("model", required=False)
@click.option("-m", "--model-name", "named", metavar="NAME", help="The same as MODEL.")
@click.option("--listed", is_flag=True, help="Only the 80 models the SDK's encoder sample lists.")
@click.option("--family", metavar="F", help="Only models of this type: bert, distilbert, ...")
@click.option("--task", metavar="T", help="Only models whose weights were trained for this task.")
@click.option(
    "--max-params", type=Count(), metavar="N", help="Only models up to so many weights: 110M, 1.5G."
)
@click.option(
    "--lut",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Look-up table; default ./lut_nlp_models.csv, else the shipped one.",
)
@json_option
def command(
    model: str | None,
    named: str | None,
    listed: bool,
    family: str | None,
    task: str | None,
    max_params: int | None,
    lut: Path | None,
    as_json: bool,
) -> None:
    """List the models, their table rows, and the configuration each objective resolves to.

    With MODEL (an id, or its canonical hub id): that model in full, each objective's configuration for each
    task that has rows, where each value comes from, and how sure the facts are.

    \b
    farm catalog
    farm catalog bert-base-cased
    farm catalog --family distilbert --task question-answering --max-params 70M
    """
    from farm.cli.asking import open_table
    from farm.domain.catalogue import Catalogue
    from farm.report.catalogue import model_page, models_grid

    table, catalogue = open_table(lut), Catalogue.load()
    filtered = listed or family is not None or task is not None or max_params is not None
    if (model or named) and (filtered or (model and named)):
        raise BadInput("name one MODEL, or filter with --listed, --family, --task and --max-params")
    if name := model or named:
        entry = _entry(_known(name, table, catalogue), table, catalogue, every_task=True)
        if as_json:
            print_json(entry)
        else:
            console().print(model_page(entry))
        return
    _check_filter("--family", family, catalogue.families())
    _check_filter("--task", task, tuple(dict.fromkeys(facts.task for facts in catalogue.models)))
    chosen = [
        facts.model
        for facts in catalogue.select(family=family, task=task, max_params=max_params)
        if facts.listed or not listed
    ]
    if not filtered:
        chosen += [model for model in table.models if catalogue.get(model) is None]
    entries = [_entry(model, table, catalogue, every_task=False) for model in chosen]
    if as_json:
        print_json(entries)
    elif entries:
        _show_models(models_grid(entries))
    else:
        note("no model of the catalogue is like that")


def _check_filter(option: str, value: str | None, known: Sequence[str]) -> None:
    """Raise BadInput for a value that no model of the catalogue has."""
    from farm.domain.options import one_of

    if value is not None and value not in known:
        raise BadInput(f"{option} {value!r}: no model of the catalogue is of that; choose {one_of(known)}")


def _known(name: str, table: LookupTable, catalogue: Catalogue) -> str:
    """The id of the model of that name. Raises BadInput with the nearest names."""
    from farm.domain.options import one_of

    facts = catalogue.get(name)
    if facts is not None:
        return facts.model
    if table.has(name):
        return name
    near = catalogue.near(name)
    hint = f"did you mean {one_of(near)}?" if near else "`farm catalog` lists the models"
    raise BadInput(f"{name!r} is not in the catalogue; {hint}")


def _show_models(grid: Grid) -> None:
    """The models, in as many columns as the terminal has room for."""
    screen = console()
    fitting = grid.fitting(screen)
    screen.print(fitting.rich())
    if left_out := [column.heading for column in grid.columns[len(fitting.columns) :]]:
        note(
            f"not shown, for want of width: {', '.join(left_out)}; `farm catalog MODEL` shows one model whole"
        )


def _entry(model: str, table: LookupTable, catalogue: Catalogue, *, every_task: bool) -> dict[str, Any]:
    """A model's facts (null where the catalogue lacks it), its rows, and what each objective resolves to.

    every_task: for each task that has rows, not for the task of the first row alone.
    """
    from dataclasses import asdict, fields

    from farm.cli.asking import job_document
    from farm.domain.catalogue import ModelFacts
    from farm.domain.job import OBJECTIVES

    facts = catalogue.get(model)
    known = {**asdict(facts), "tasks": facts.tasks} if facts else {f.name: None for f in fields(ModelFacts)}
    jobs = [job for objective in OBJECTIVES for job in _jobs(model, objective, table, catalogue, every_task)]
    return {
        **known,
        "model": model,
        "rows": [
            {"task": row.task, "objective": row.objective, "precision": row.precision}
            for row in table.rows
            if row.model == model
        ],
        "configurations": [job_document(job) for job in jobs],
    }


def _jobs(
    model: str, objective: Objective, table: LookupTable, catalogue: Catalogue, every_task: bool
) -> list[Job]:
    """What a submission of the model and objective would make, for one task or each that has rows."""
    from farm.cli.asking import jobs_of
    from farm.domain.options import Request

    tasks = table.tasks(model) if every_task else ()
    requests = [Request(models=(model,), objectives=(objective,), task=task) for task in tasks or (None,)]
    return jobs_of(requests, table, catalogue)
