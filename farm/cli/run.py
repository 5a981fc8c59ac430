"""`farm run`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from farm.cli.context import Farm, json_option, note, pass_farm, print_json, show
from farm.cli.extras import need
from farm.cli.job_options import given, job_options
from farm.domain.errors import BadInput


@click.command("run")
@click.option(
    "-m",
    "--model-name",
    "name",
    required=True,
    metavar="NAME",
    help="A hub id (org/name[@revision]), a checkpoint folder or a .onnx file.",
)
@partial(job_options, leave_out=("repeat",))
@click.option(
    "--lut",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Look-up table; default ./lut_nlp_models.csv, else the shipped one.",
)
@click.option(
    "--workdir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    metavar="D",
    help="Where <model>/<task>/ is made; default the current folder.",
)
@json_option
@pass_farm
def command(farm: Farm, /, name: str, lut: Path | None, workdir: Path, as_json: bool, **asked: Any) -> int:
    """Run one job in this process: export, compile, run, compare. No Redis, no farm.

    Takes what the SDK's single-model script takes and leaves the same folders behind. A card that a farm
    holds is waited for: both take the card's lock.

    \b
    farm run -m bert-base-cased -o best-latency
    farm run -m ./my-checkpoint -t text-classification -b 4 -d 2 --json
    """
    need("cpu")
    from farm.cli.asking import jobs_of, open_table
    from farm.domain.catalogue import Catalogue
    from farm.domain.options import Request
    from farm.report.results import results_grid
    from farm.sdk.resting import resting_cards
    from farm.sdk.root import open_sdk
    from farm.worker.single import run_job

    root = farm.find_sdk()
    asked_cards, held = resting_cards(open_sdk(root))
    totals = [card.nsp_total for card in asked_cards] + [card.nsp_total for card in held]
    nsps = [total for total in totals if total]
    if not nsps:
        raise BadInput(f"the qaic-util of {root} shows no card that is Ready; farm doctor tells more")
    request = Request(models=(name,), **given(asked))
    jobs = jobs_of([request], open_table(lut), Catalogue.load(), max(nsps))
    if len(jobs) > 1:
        raise BadInput(
            f"these options make {len(jobs)} jobs and farm run runs one; farm submit runs them all"
        )
    record = run_job(jobs[0], sdk_root=root, workdir=workdir.absolute(), store=farm.store(), progress=note)
    if as_json:
        print_json(record)
    else:
        show(results_grid([record]).rich())
    return 0 if record["state"] == "done" else 1
