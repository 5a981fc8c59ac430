"""A grid of text cells, and its two looks: a rich table and a Markdown table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from farm.domain.text import one_line

#: Columns of a table that goes to a file or a pipe.
PLAIN_WIDTH = 240

#: The colour of a state or a health, wherever it is shown.
COLOURS = {
    "running": "cyan",
    "claimed": "cyan",
    "done": "green",
    "good": "green",
    "pass": "green",
    "failed": "red",
    "fail": "red",
    "quarantined": "red",
    "blocked": "red",
    "suspect": "yellow",
    "drained": "yellow",
    "unknown": "yellow",
    "cancelled": "dim",
    "waiting": "dim",
}


@dataclass(frozen=True)
class Column:
    """A column's heading; numbers stand to the right."""

    heading: str
    numeric: bool = False


@dataclass
class Grid:
    """Columns, and rows of as many text cells."""

    columns: Sequence[Column]
    rows: list[list[str]] = field(default_factory=list)
    title: str | None = None

    def rich(self) -> Table:
        """The grid for a terminal; nothing is cut off, long cells are folded, control codes spelt out."""
        table = Table(box=box.SIMPLE_HEAD, title=self.title, title_justify="left", pad_edge=False)
        for column in self.columns:
            table.add_column(column.heading, justify="right" if column.numeric else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*(Text(one_line(cell), style=COLOURS.get(cell, "")) for cell in row))
        return table

    def fitting(self, console: Console) -> Grid:
        """The grid without the last columns that the console has no room for; the first always stays."""
        unbounded = console.options.update(width=sys.maxsize)
        for count in range(len(self.columns), 1, -1):
            grid = Grid(self.columns[:count], [row[:count] for row in self.rows], self.title)
            if console.measure(grid.rich(), options=unbounded).maximum <= console.width:
                return grid
        return Grid(self.columns[:1], [row[:1] for row in self.rows], self.title)

    def markdown(self) -> str:
        """The grid as a Markdown table, ending in a newline."""
        lines = [
            [column.heading for column in self.columns],
            ["---:" if column.numeric else "---" for column in self.columns],
            *self.rows,
        ]
        return "".join("| " + " | ".join(_cell(cell) for cell in line) + " |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(one_line(text).replace("\\", "\\\\").replace("|", "\\|").split())
