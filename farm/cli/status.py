"""`farm status`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from farm.cli.context import Farm, console, json_option, note, pass_farm, print_json, redis_option, show

if TYPE_CHECKING:
    from farm.records import Records

#: Seconds between two pictures of --watch when nothing changes; the time left still counts down.
REFRESH_S = 1.0


@click.command("status")
@click.argument("campaign", required=False)
@click.option("--watch", is_flag=True, help="Refresh until the campaign has ended; Ctrl-C leaves it running.")
@redis_option
@json_option
@pass_farm
def command(farm: Farm, campaign: str | None, watch: bool, as_json: bool) -> None:
    """Show a campaign's stages, the cards and the time left.

    Without CAMPAIGN: the latest one. A unique beginning of its id will do.

    \b
    farm status
    farm status --watch
    farm status 20250301-0912-a1b2 --json
    """
    from farm.report.status import status_view

    records = farm.records()
    if not records.coordinator_alive():
        note("no coordinator: nothing is started until one is there (farm up, or farm coordinator)")
    if as_json:
        print_json(_status(records, campaign))
    elif watch:
        _watch(records, campaign)
    else:
        show(status_view(_status(records, campaign)))


def _status(records: Records, campaign: str | None) -> dict[str, Any]:
    from farm.report.status import empty_status

    if campaign is None and records.latest() is None:
        return empty_status(records.cards(), records.fleet.halted())
    return records.status(campaign)


def _watch(records: Records, campaign: str | None) -> None:
    """Full screen on a terminal, a picture a second elsewhere; the last one stays."""
    from rich.live import Live

    from farm.report.status import status_view

    status = _status(records, campaign)
    with Live(console=console(), screen=sys.stdout.isatty(), auto_refresh=False, transient=True) as live:
        while status["campaign"] is None or status["state"] in ("waiting", "running"):
            live.update(status_view(status), refresh=True)
            records.wait_change(REFRESH_S)
            status = _status(records, status["campaign"])
    show(status_view(status))
