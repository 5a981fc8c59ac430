"""`farm cancel`."""

from __future__ import annotations

import click

from farm.cli.context import Farm, json_option, pass_farm, print_json, redis_option
from farm.cli.naming import names_or_latest


@click.command("cancel")
@click.argument("names", metavar="[CAMPAIGN|JOB]...", nargs=-1)
@redis_option
@json_option
@pass_farm
def command(farm: Farm, names: tuple[str, ...], as_json: bool) -> None:
    """Cancel campaigns or jobs; what runs for them ends within seconds.

    Without a name: the latest campaign. What other campaigns share goes on.

    \b
    farm cancel
    farm cancel 20250301-0912-a1b2.3 20250301-0912-a1b2.4
    """
    records = farm.records()
    chosen = names_or_latest(records, names)
    cancelled = records.cancel(chosen)
    if as_json:
        print_json({"names": chosen, "cancelled": cancelled})
    else:
        click.echo(f"cancelled {cancelled} jobs of {', '.join(chosen)}")
