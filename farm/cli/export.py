"""`farm export`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from farm.cli.context import Farm, note, pass_farm
from farm.cli.extras import need
from farm.cli.job_options import given, job_options
from farm.domain.options import OPTIONS

#: What an export depends on.
FIELDS = ("task", "opset", "seed", "weights", "trust_remote_code")


@click.command("export")
@click.option(
    "-m",
    "--model-name",
    "name",
    required=True,
    metavar="NAME",
    help="A hub id (org/name[@revision]), a checkpoint folder or a .onnx file.",
)
@partial(job_options, leave_out=[option.field for option in OPTIONS if option.field not in FIELDS])
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@pass_farm
def command(farm: Farm, /, name: str, directory: Path, **asked: Any) -> None:
    """Export a model to DIRECTORY/model.onnx, its weights clipped to the fp16 range where they leave it.

    \b
    farm export -m bert-base-cased -t fill-mask ./bert
    farm export -m prajjwal1/bert-tiny --weights random --opset 17 ./tiny
    """
    need("cpu")
    from farm.cli.asking import jobs_of, open_table
    from farm.domain.catalogue import Catalogue
    from farm.domain.options import Request
    from farm.domain.plan import plan
    from farm.worker.single import export_to

    [job] = jobs_of([Request(models=(name,), **given(asked))], open_table(None), Catalogue.load())
    ask = next(stage.ask for stage in plan([job]).stages if stage.kind == "export")
    click.echo(export_to(ask, directory.absolute(), store=farm.store(), progress=note))
