"""`farm logs`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from farm.cli.context import Farm, note, pass_farm, redis_option
from farm.domain.errors import BadInput
from farm.domain.job import STAGE_KINDS
from farm.domain.text import printable

#: States in which a stage may still write to its log.
OPEN = ("waiting", "ready", "claimed", "running")
#: How long --follow waits for more before it looks again.
LOOK_EVERY_S = 0.5


@click.command("logs")
@click.argument("job")
@click.option("--stage", type=click.Choice(STAGE_KINDS), help="Default: the stage that failed, else the run.")
@click.option("--follow", is_flag=True, help="Go on until the stage has ended.")
@redis_option
@pass_farm
def command(farm: Farm, job: str, stage: str | None, follow: bool) -> None:
    """Print the log of a job's stage: what the SDK's tool, or the export, said.

    On a terminal control characters are spelt out; into a file or a pipe the log goes as it is.

    \b
    farm logs 20250301-0912-a1b2.3
    farm logs 20250301-0912-a1b2.3 --stage compile
    """
    records = farm.records()
    kind = stage or _most_telling(records.job(job), farm.home)
    offset = 0
    while True:
        record = records.job(job)
        path = _log_of(record, kind, farm.home)
        if path is not None:
            offset = _print_from(path, offset)
        ended = record["stages"][kind]["state"] not in OPEN
        if ended or not follow:
            if path is None:
                raise BadInput(f"job {job} has no {kind} log ({kind} is {record['stages'][kind]['state']})")
            return
        records.wait_change(LOOK_EVERY_S)


def _most_telling(record: Mapping[str, Any], home: Path) -> str:
    """The stage that failed, else the run, else the last one before it with a log."""
    stages = record["stages"]
    for kind in STAGE_KINDS:
        if stages[kind]["state"] == "failed":
            return kind
    for kind in ("run", "compile", "export"):
        if _log_of(record, kind, home):
            return kind
    return "run"


def _log_of(record: Mapping[str, Any], kind: str, home: Path) -> Path | None:
    """The newest log of the stage: of the attempt under way where it is on this machine, else as recorded."""
    from farm.worker.places import Places

    stage = record["stages"][kind]
    places = Places(home)
    if stage["attempts"] and places.process_logs.is_dir():
        mine = places.log(stage["id"], stage["attempts"])
        if mine.exists():
            return mine
    for attempt in reversed(record["history"]):
        if attempt["stage"] == kind and attempt.get("log"):
            return Path(attempt["log"])
    return Path(stage["log"]) if stage.get("log") else None


def _for_terminal(data: bytes) -> str:
    """The log's text with a line for each state of a progress bar, and other control characters spelt out."""
    text = data.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    return printable(text, keep="\n\t")


def _print_from(path: Path, offset: int) -> int:
    """Print the file from offset on; the offset of its end. BadInput when it is not on this machine."""
    try:
        with path.open("rb") as log:
            log.seek(offset)
            data = log.read()
    except OSError as error:
        raise BadInput(
            f"cannot read the log {path} ({error.strerror}): it is on the worker's host"
        ) from error
    if data:
        click.echo(_for_terminal(data) if sys.stdout.isatty() else data, nl=False)
    elif offset == 0:
        note(f"{path} is empty")
    return offset + len(data)
