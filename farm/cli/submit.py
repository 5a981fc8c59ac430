"""`farm submit`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from farm.cli.context import Farm, json_option, note, pass_farm, print_json, redis_option, show
from farm.cli.extras import need
from farm.cli.job_options import ListsInARow, job_options
from farm.domain.errors import Unreachable
from farm.domain.names import check_label

if TYPE_CHECKING:
    from farm.domain.job import Job
    from farm.domain.plan import Plan


@click.command("submit", cls=ListsInARow)
@click.option(
    "-m",
    "--model-name",
    "names",
    multiple=True,
    metavar="NAME",
    help="A hub id (org/name[@revision]), a checkpoint folder or a .onnx file; one or more.",
)
@click.option(
    "--models-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="F",
    help="One model per line, job options after it, # comments.",
)
@click.option("--all-models", is_flag=True, help="Every model of the look-up table.")
@click.option("--listed", is_flag=True, help="The 80 models the SDK's encoder sample lists.")
@job_options
@click.option(
    "--lut",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Look-up table; default ./lut_nlp_models.csv, else the shipped one.",
)
@click.option("--priority", type=click.IntRange(0, 9), default=0, show_default=True, help="9 goes first.")
@click.option("--label", metavar="T", help="A name of your own for the campaign.")
@click.option("--dry-run", is_flag=True, help="Show the jobs and where each value comes from; needs no farm.")
@click.option("--wait", is_flag=True, help="Wait until the campaign has ended; 1 when a job failed.")
@redis_option
@json_option
@pass_farm
def command(
    farm: Farm,
    /,
    names: tuple[str, ...],
    models_file: Path | None,
    all_models: bool,
    listed: bool,
    lut: Path | None,
    priority: int,
    label: str | None,
    dry_run: bool,
    wait: bool,
    as_json: bool,
    **asked: Any,
) -> int:
    """Submit models as a campaign; prints its id.

    Lists multiply: `-b 1,8 -s 128 384` makes four jobs a model. A value not given comes from the look-up
    table's row, else from the objective's default.

    \b
    farm submit -m bert-base-cased albert-base-v2 -o all --wait
    farm submit --listed -t question-answering --repeat 3 --label nightly
    farm submit -m albert-base-v2 -b 1,2,4,8 -c 2 -i 7 --dry-run
    """
    from farm.cli.asking import Models, jobs_of, nsps_of, open_table, requests
    from farm.domain.catalogue import Catalogue

    if label is not None:
        check_label(label)
    table, catalogue = open_table(lut), Catalogue.load()
    wanted = requests(Models(names, models_file, all_models, listed), asked, table, catalogue)
    if dry_run:
        _show_jobs(jobs_of(wanted, table, catalogue), as_json)
        return 0

    from farm.cli.progress import follow, need_coordinator

    try:
        records = farm.records()
    except Unreachable:
        jobs_of(wanted, table, catalogue)  # Bad input is said first: it stays when a farm is there.
        raise
    jobs = jobs_of(wanted, table, catalogue, nsps_of(records.cards()))
    with _planned(farm, jobs) as planned:
        campaign = records.submit(planned, label=label, priority=priority, command=_without_urls(farm.argv))
    if as_json:
        print_json({"campaign": campaign, "jobs": len(jobs)})
    else:
        click.echo(campaign)
    if wait:
        need_coordinator(records)
        return follow(records, campaign)
    if not records.coordinator_alive():
        note(f"no coordinator: {campaign} is recorded and waits for one (farm up, or farm coordinator)")
    return 0


def _planned(farm: Farm, jobs: Sequence[Job]) -> AbstractContextManager[Plan]:
    """The plan to submit within the block; only `--run-only` looks at this host's store and SDK."""
    from farm.domain.plan import plan

    planned = plan(jobs)
    if not any(job.run_only for job in jobs):
        return nullcontext(planned)
    need("cpu")
    from farm.worker.existing import with_existing

    return with_existing(planned, farm.store(), farm.sdk_root())


def _without_urls(argv: Sequence[str]) -> list[str]:
    """The command line as it may be recorded: a Redis URL may carry a password."""
    kept: list[str] = ["farm"]
    skip = False
    for word in argv:
        if not skip and not word.startswith("--redis"):
            kept.append(word)
        skip = word == "--redis"
    return kept


def _show_jobs(jobs: Sequence[Job], as_json: bool) -> None:
    from farm.cli.asking import job_document

    documents = [job_document(job) for job in jobs]
    if as_json:
        print_json({"jobs": documents})
        return
    from farm.report.jobs import requested_grid

    show(requested_grid(documents).rich())
    note(f"jobs: {len(jobs)}; u = your option, t = table row, d = default, r = reduced to fit the card")
