"""`farm down`."""

from __future__ import annotations

import click

from farm.cli.context import Farm, pass_farm


@click.command("down")
@pass_farm
def command(farm: Farm) -> int:
    """Stop this machine's farm; running stages end or are handed back, nothing is lost.

    \b
    farm down
    """
    from farm.local.background import down

    return down(farm.home)
