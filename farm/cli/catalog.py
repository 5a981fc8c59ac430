"""`farm catalog`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from farm.cli.context import json_option, note, print_json, show

if TYPE_CHECKING:
    from farm.domain.catalogue import Catalogue
    from farm.domain.lut import LookupTable


@click.command("catalog")
@click.option("-m", "--model-name", "names", multiple=True, metavar="NAME", help="Only these models.")
@click.option("--listed", is_flag=True, help="Only the 80 models the SDK's encoder sample lists.")
@click.option("--family", help="Only models of this type: bert, distilbert, ...")
@click.option("--task", help="Only models whose weights serve this task.")
@click.option("--max-params", type=click.IntRange(1), metavar="N", help="Only models up to so many weights.")
@click.option("--lut", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE")
@json_option
def command(
    names: tuple[str, ...],
    listed: bool,
    family: str | None,
    task: str | None,
    max_params: int | None,
    lut: Path | None,
    as_json: bool,
) -> None:
    """List the models, their table rows, and the configuration each objective resolves to.

    \b
    farm catalog
    farm catalog -m bert-base-cased --json
    farm catalog --family distilbert --task question-answering
    """
    from farm.cli.asking import open_table
    from farm.domain.catalogue import Catalogue
    from farm.report.jobs import catalogue_grid

    table, catalogue = open_table(lut), Catalogue.load()
    chosen = [
        facts.model
        for facts in catalogue.select(family=family, task=task, max_params=max_params)
        if facts.listed or not listed
    ]
    if not (listed or family or task or max_params):
        chosen += [model for model in table.models if catalogue.get(model) is None]
    if names:
        chosen = [model for model in names if model in chosen or catalogue.get(model) is None]
    entries = [_entry(model, table, catalogue) for model in chosen]
    if as_json:
        print_json(entries)
    elif entries:
        show(catalogue_grid(entries).rich())
    else:
        note("no model of the catalogue is like that")


def _entry(model: str, table: LookupTable, catalogue: Catalogue) -> dict[str, Any]:
    """A model's facts (null where the catalogue lacks it), its rows, and what each objective resolves to."""
    from farm.cli.asking import job_document, jobs_of
    from farm.domain.job import OBJECTIVES
    from farm.domain.options import Request

    facts = catalogue.get(model)
    names: Iterable[str] = ("model_type", "architecture", "task", "params", "usable_length", "listed")
    return {
        "model": model,
        **{name: getattr(facts, name, None) for name in names},
        "rows": [
            {"task": row.task, "objective": row.objective, "precision": row.precision}
            for row in table.rows
            if row.model == model
        ],
        "configurations": [
            job_document(job)
            for job in jobs_of([Request(models=(model,), objectives=OBJECTIVES)], table, catalogue)
        ],
    }
