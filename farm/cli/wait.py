"""`farm wait`."""

from __future__ import annotations

import click

from farm.cli.context import Farm, json_option, pass_farm, print_json, redis_option
from farm.cli.naming import latest


@click.command("wait")
@click.argument("campaign", required=False)
@redis_option
@json_option
@pass_farm
def command(farm: Farm, campaign: str | None, as_json: bool) -> int:
    """Wait until a campaign has ended; 1 when a job failed or was cancelled.

    Without CAMPAIGN: the latest one. --json prints the status at the end. Ctrl-C leaves it running.

    \b
    farm wait && farm results
    """
    from farm.cli.progress import follow

    records = farm.records()
    name = str(records.status(latest(records) if campaign is None else campaign)["campaign"])
    code = follow(records, name)
    if as_json:
        print_json(records.status(name))
    return code
