"""Following a campaign until it has ended: a bar on a terminal, a line now and then elsewhere; on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from farm.cli.context import note
from farm.domain.errors import Unreachable
from farm.report.status import notes, summary

if TYPE_CHECKING:
    from farm.records import Records

Status = dict[str, Any]

#: Seconds between two lines where stderr is no terminal.
LINE_EVERY_S = 10.0
#: How long a change may go unseen.
LOOK_EVERY_S = 1.0


def need_coordinator(records: Records) -> None:
    """Raise Unreachable when nothing would ever happen."""
    if not records.coordinator_alive():
        raise Unreachable("no coordinator is there, so nothing will be started: farm up, or farm coordinator")


def follow(records: Records, campaign: str) -> int:
    """Show the campaign's progress until it has ended; 0 when every job is done, else 1.

    Raises Unreachable when the campaign is open and no coordinator is there. Ctrl-C leaves the campaign
    running, says so, and is passed on.
    """
    status = records.status(campaign)
    try:
        if _open(status):
            need_coordinator(records)
            with (_bar if sys.stderr.isatty() else _lines)() as show:
                while _open(status):
                    show(status)
                    records.wait_change(LOOK_EVERY_S)
                    status = records.status(campaign)
    except KeyboardInterrupt:
        note(f"campaign {campaign} goes on; farm status {campaign} shows it, farm cancel {campaign} stops it")
        raise
    note(summary(status))
    return 0 if status["state"] == "done" else 1


def _open(status: Status) -> bool:
    return status["state"] in ("waiting", "running")


@contextmanager
def _lines() -> Iterator[Callable[[Status], None]]:
    said, last = "", 0.0

    def show(status: Status) -> None:
        nonlocal said, last
        line, now = "; ".join([summary(status), *notes(status)]), time.monotonic()
        if line != said and now - last >= LINE_EVERY_S:
            note(line)
            said, last = line, now

    yield show


@contextmanager
def _bar() -> Iterator[Callable[[Status], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn(),
        console=Console(stderr=True, highlight=False), transient=True,
    ) as progress:  # fmt: skip
        bar = progress.add_task("", total=None)

        def show(status: Status) -> None:
            jobs = status["jobs"]
            progress.update(
                bar,
                total=jobs["total"],
                completed=jobs["total"] - jobs["waiting"] - jobs["running"],
                description="\n".join([summary(status), *notes(status)]),
            )

        yield show
