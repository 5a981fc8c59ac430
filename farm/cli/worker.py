"""`farm worker`: become one Celery worker of the farm, in the foreground."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Literal

import click

from farm.cli.context import Farm, pass_farm, redis_option
from farm.cli.extras import need
from farm.cli.sizes import limit_options, limits
from farm.domain.queues import CPU_QUEUES

name_option = click.option("--name", help="Tells workers of one host apart; default from the queues.")


@click.group("worker")
def command() -> None:
    """Be one worker, in the foreground: what docker compose and systemd start.

    \b
    farm worker cpu
    farm worker device 3
    """


@command.command("cpu")
@click.option(
    "-Q", "--queues", metavar="Q,...", help=f"Serve only these of {', '.join(CPU_QUEUES)}; default all."
)
@limit_options
@name_option
@redis_option
@pass_farm
def cpu(
    farm: Farm, queues: str | None, store_limit: str | None, memory_limit: str | None, name: str | None
) -> None:
    """Export, make references, compile and compare; one stage at a time."""
    chosen = queues.split(",") if queues else list(CPU_QUEUES)
    unknown = sorted(set(chosen) - set(CPU_QUEUES))
    if unknown:
        raise click.UsageError(f"queue {unknown[0]!r} is not one of {', '.join(CPU_QUEUES)}")
    if {"export", "reference"} & set(chosen):
        need("cpu")
    _become(farm, "cpu", chosen, name, limits(store_limit, memory_limit))


@command.command("device")
@click.argument("qid", type=click.IntRange(0, 9999))
@click.option(
    "--node", envvar="FARM_NODE", help="This host's name in a farm of several hosts; default FARM_NODE."
)
@click.option(
    "--share-card",
    is_flag=True,
    help="Hold only the NSPs a job needs, beside other jobs; the numbers are then not clean.",
)
@name_option
@redis_option
@pass_farm
def device(farm: Farm, qid: int, node: str | None, share_card: bool, name: str | None) -> None:
    """Run jobs on card QID of this host; a second worker prepares the next job while the first one runs."""
    from farm.domain.queues import device_queue, qid_of

    queue = device_queue(qid, node)
    qid_of(queue)
    settings = {"FARM_NODE": node} if node else {}
    _become(farm, "device", [queue], name, settings | ({"FARM_SHARE_CARD": "1"} if share_card else {}))


def _become(
    farm: Farm,
    kind: Literal["cpu", "device"],
    queues: Sequence[str],
    name: str | None,
    settings: Mapping[str, str],
) -> None:
    """Replace this process by the Celery worker, so that signals reach it and nothing else stays."""
    need("worker")
    from farm.local.process import worker_argv

    environment = {
        **os.environ,
        **settings,
        "FARM_REDIS_URL": farm.url(),
        "FARM_BROKER_URL": farm.broker_url(),
    }
    argv = worker_argv(kind, queues, name=name)
    os.execve(argv[0], argv, environment)
