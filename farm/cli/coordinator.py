"""`farm coordinator`."""

from __future__ import annotations

import click

from farm.cli.context import Farm, pass_farm, redis_option


@click.command("coordinator")
@redis_option
@pass_farm
def command(farm: Farm) -> int:
    """Be the coordinator, in the foreground: rings for ready work, reaps lapsed leases, keeps the farm clock.

    Several may run at once; SIGTERM ends it. What docker compose and systemd start.

    \b
    farm --redis redis://records:6379/0 coordinator
    """
    from farm.coordinator import main

    return main(farm.url(), farm.broker_url(), farm.home)
