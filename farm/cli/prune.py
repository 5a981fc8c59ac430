"""`farm prune`."""

from __future__ import annotations

from typing import Any

import click

from farm.cli.context import Farm, json_option, pass_farm, print_json, redis_option, show
from farm.cli.sizes import Size
from farm.domain.errors import BadInput


@click.command("prune")
@click.option("--all", "everything", is_flag=True, help="Free all that no unfinished job needs.")
@click.option(
    "--free", type=Size(), metavar="SIZE", help="Free about so much, the least recently asked for first."
)
@click.option(
    "--unknown",
    is_flag=True,
    help="Also free artifacts the farm's records do not know: of `farm run`, or of a Redis that was lost.",
)
@redis_option
@json_option
@pass_farm
def command(farm: Farm, everything: bool, free: str | None, unknown: bool, as_json: bool) -> None:
    """Show what the farm's files on this host take, and free what nobody needs.

    Artifacts that an unfinished job needs are never removed, nor is an attempt that a model's folder shows.
    A freed artifact is made again when it is asked for again.

    \b
    farm prune                 what is there, and what could go
    farm prune --free 20G
    farm prune --all
    """
    if everything and free:
        raise BadInput("--all and --free SIZE exclude each other")
    from farm.domain.sizes import parse_size
    from farm.report.store import prune_view
    from farm.worker.pruning import Pruning

    pruning = Pruning(farm.home, farm.store(), farm.records())
    removed = pruning.free_unknown() if unknown else []
    if everything or free:
        removed += pruning.free(parse_size(free, "--free") if free else None)
    document: dict[str, Any] = {
        **pruning.overview(),
        "freed": sum(piece["bytes"] for piece in removed),
        "removed": [piece["name"] for piece in removed],
    }
    if as_json:
        print_json(document)
    else:
        show(prune_view(document))
