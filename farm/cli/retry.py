"""`farm retry`."""

from __future__ import annotations

import click

from farm.cli.context import Farm, json_option, pass_farm, print_json, redis_option
from farm.cli.naming import names_or_latest


@click.command("retry")
@click.argument("names", metavar="[CAMPAIGN|JOB]...", nargs=-1)
@click.option("--failed", is_flag=True, help="Only the jobs that failed or were cancelled.")
@redis_option
@json_option
@pass_farm
def command(farm: Farm, names: tuple[str, ...], failed: bool, as_json: bool) -> None:
    """Run finished campaigns or jobs again; the old result is archived.

    Without a name: the latest campaign. Artifacts that exist are used again.

    \b
    farm retry --failed
    farm retry 20250301-0912-a1b2.3
    """
    records = farm.records()
    chosen = names_or_latest(records, names)
    retried = records.retry(chosen, failed_only=failed)
    if as_json:
        print_json({"names": chosen, "retried": retried})
    else:
        click.echo(f"{retried} jobs of {', '.join(chosen)} are open again")
