"""`farm jobs`."""

from __future__ import annotations

import click

from farm.cli.context import Farm, json_option, note, pass_farm, print_json, redis_option, show


@click.command("jobs")
@click.argument("name", metavar="[CAMPAIGN|JOB]", required=False)
@redis_option
@json_option
@pass_farm
def command(farm: Farm, name: str | None, as_json: bool) -> None:
    """List a campaign's jobs, or the history of one job, attempt by attempt.

    Without a name: the jobs of the latest campaign. A job's id is its campaign's, a dot and a number. Its
    history says of each attempt which worker and card had it, when, how it ended and where its log is.

    \b
    farm jobs
    farm jobs 20250301-0912-a1b2.3
    """
    from farm.report.status import history_view, jobs_grid

    records = farm.records()
    if name is not None and "." in name:
        job = records.job(name)
        if as_json:
            print_json(job)
            return
        show(history_view(job))
        return
    jobs = [] if name is None and records.latest() is None else records.jobs(name)
    if as_json:
        print_json(jobs)
    elif jobs:
        show(jobs_grid(jobs).rich())
    else:
        note("no job yet; farm submit -m MODEL makes one")
