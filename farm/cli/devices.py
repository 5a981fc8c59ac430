"""`farm devices`: the cards, taking one out of work, and the compose override for this host."""

from __future__ import annotations

from datetime import datetime, timezone

import click

from farm.cli.context import Farm, json_option, note, pass_farm, print_json, redis_option, show

#: The contract's fields of a card, in order.
FIELDS = (
    *("device", "node", "state", "health", "reason", "sku", "nsp_total", "nsp_free", "serial"),
    *("pci_address", "workers", "queued", "temperature_c", "power_w", "seen"),
)


@click.group("devices", invoke_without_command=True)
@click.option(
    "--compose", is_flag=True, help="Print a compose override with this host's device nodes and group."
)
@redis_option
@json_option
@click.pass_context
def command(ctx: click.Context, compose: bool, as_json: bool) -> None:
    """List the cards: health, SKU, free NSPs, workers, queue, temperature, power.

    \b
    farm devices
    farm devices drain 3
    farm devices resume 3
    farm devices --compose > docker-compose.override.yml
    """
    if ctx.invoked_subcommand is not None:
        return
    if compose:
        from farm.cli.compose import override

        click.echo(override(), nl=False)
        return
    from farm.report.status import devices_grid

    cards = [{name: card[name] for name in FIELDS} for card in ctx.ensure_object(Farm).records().cards()]
    if as_json:
        print_json(cards)
    elif cards:
        show(devices_grid(cards, datetime.now(timezone.utc)).rich())
    else:
        note("no card is known yet; each card's worker brings its own (farm up, or farm worker device)")


@command.command("drain")
@click.argument("device")
@redis_option
@pass_farm
def drain(farm: Farm, device: str) -> None:
    """Take a card out of work; what runs on it ends normally."""
    farm.records().drain(device)
    click.echo(f"card {device} takes no more work; farm devices resume {device} puts it back")


@command.command("resume")
@click.argument("device")
@redis_option
@pass_farm
def resume(farm: Farm, device: str) -> None:
    """Put a drained card back to work."""
    farm.records().resume(device)
    click.echo(f"card {device} takes work again")
