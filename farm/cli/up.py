"""`farm up`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from farm.cli.context import Farm, pass_farm, redis_option
from farm.cli.extras import need
from farm.cli.sizes import limit_options, limits


@click.command("up")
@click.option(
    "--emulate",
    metavar="[N]",
    type=click.IntRange(1, 64),
    is_flag=False,
    flag_value=8,
    default=None,
    help="Emulate N cards (8) in place of this machine's.",
)
@click.option(
    "--timing",
    type=click.Choice(["measured", "modelled"]),
    default="measured",
    show_default=True,
    help="With --emulate: times as they come, or computed from a model of the card.",
)
@click.option(
    "--sdk",
    type=click.Choice(["1.12", "1.21"]),
    default="1.21",
    show_default=True,
    help="With --emulate: the SDK version to behave like.",
)
@click.option(
    "--cpu-workers",
    type=click.IntRange(1, 256),
    metavar="K",
    help="Workers that export, compile and compare; default by this machine's CPUs and memory.",
)
@click.option(
    "--workers-per-device",
    type=click.IntRange(1, 4),
    default=2,
    show_default=True,
    metavar="W",
    help="A second one prepares the next job while the first one runs.",
)
@limit_options
@click.option("--detach", is_flag=True, help="Return once coordinator, CPU worker and a good card are there.")
@redis_option
@pass_farm
def command(
    farm: Farm,
    emulate: int | None,
    timing: str,
    sdk: str,
    cpu_workers: int | None,
    workers_per_device: int,
    store_limit: str | None,
    memory_limit: str | None,
    detach: bool,
) -> int:
    """Start a farm on this machine and keep it running: Redis (unless a URL is given), coordinator, workers.

    \b
    farm up                            on a host with cards
    farm up --emulate --detach         eight emulated cards, in the background
    farm up --emulate 2 --timing modelled
    farm up --store-limit 200G         what no unfinished job needs makes way beyond that
    """
    need("cpu", "worker")
    from farm.local.up import UpOptions, up

    root = os.environ.get("FARM_SDK_ROOT")
    return up(
        UpOptions(
            home=farm.home,
            redis_url=farm.redis_url,
            broker_url=os.environ.get("FARM_BROKER_URL"),
            sdk_root=Path(root) if root else None,
            emulate=emulate,
            timing=timing,
            sdk_profile=sdk,
            cpu_workers=cpu_workers,
            workers_per_device=workers_per_device,
            limits=limits(store_limit, memory_limit),
            detach=detach,
        )
    )
