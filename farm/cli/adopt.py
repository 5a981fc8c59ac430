"""`farm adopt`."""

from __future__ import annotations

import click

from farm.cli.context import Farm, note, pass_farm, redis_option


@click.command("adopt")
@redis_option
@pass_farm
def command(farm: Farm) -> None:
    """Go on with the records as they are, though this host has seen later ones there, or others.

    Records that came back empty or older (a lost disk, a restored backup) are touched by nobody until the
    right ones are back or this is said. What they lack is forgotten: stages that were done since are done
    again, campaigns submitted since are not known. Once is enough for all hosts; where the Redis holds
    another farm's records, each host is to be told.

    \b
    farm adopt
    """
    from farm.records import adopt

    note(adopt(farm.url(), farm.home))
