"""`farm doctor`: each assumption about this host, checked, one line each."""

from __future__ import annotations

import click

from farm.cli.check import Check
from farm.cli.checks import all_checks
from farm.cli.context import Farm, json_option, pass_farm, print_json, redis_option
from farm.domain.text import one_line

_MARKS = {"ok": "ok  ", "note": "note", "bad": "BAD "}


@click.command("doctor")
@redis_option
@json_option
@pass_farm
def command(farm: Farm, as_json: bool) -> int:
    """Check this host, the SDK, Redis and what its records tell of the farm; 1 when something is wrong.

    Also what went wrong before: cards out of work and why, failures by cause, orphans, outcomes not reported.
    Nothing is changed.

    A note is something only some hosts need: torch on a card's host, cards on a CPU worker's.

    \b
    farm doctor
    FARM_SDK_ROOT=./sdk farm doctor --json
    """
    checks = []
    for check in all_checks(farm):
        checks.append(check)
        if not as_json:
            click.echo(_line(check))
    if as_json:
        print_json([{"check": c.what, "state": c.state, "detail": c.detail} for c in checks])
    return 1 if any(check.state == "bad" for check in checks) else 0


def _line(check: Check) -> str:
    return f"{_MARKS[check.state]}  {check.what}: {one_line(' '.join(check.detail.split()))}"
