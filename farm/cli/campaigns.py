"""`farm campaigns`."""

from __future__ import annotations

import click

from farm.cli.context import Farm, json_option, note, pass_farm, print_json, redis_option, show


@click.command("campaigns")
@redis_option
@json_option
@pass_farm
def command(farm: Farm, as_json: bool) -> None:
    """List the campaigns, oldest first.

    \b
    farm campaigns
    farm campaigns --json
    """
    from farm.report.status import campaigns_grid

    campaigns = farm.records().campaigns()
    if as_json:
        print_json(campaigns)
    elif campaigns:
        show(campaigns_grid(campaigns).rich())
    else:
        note("no campaign yet; farm submit -m MODEL makes one")
