"""Jobs before they run: the configuration, and who decided each value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from farm.report.columns import BLANK
from farm.report.grid import Column, Grid

#: The values of a configuration that a table shows, and their headings.
VALUES = {
    "batch_size": "batch",
    "seq_length": "seq",
    "cores": "cores",
    "instances": "inst",
    "set_size": "set",
    "ols": "ols",
    "mos": "mos",
    "extra": "extra",
    "opset": "opset",
    "seconds": "time",
}
_MARKS = {"user": "u", "table": "t", "default": "d", "derived": "r"}


def requested_grid(documents: Sequence[Mapping[str, Any]]) -> Grid:
    """The jobs of `submit --dry-run`, each value followed by its source's letter."""
    columns = [Column("model"), Column("task"), Column("objective")]
    columns += [Column(heading, numeric=name != "extra") for name, heading in VALUES.items()]
    return Grid(columns, [_row(document) for document in documents])


def _row(document: Mapping[str, Any]) -> list[str]:
    sources = document["sources"]
    cells = [document["model"], marked(document["task"], sources.get("task")), document["objective"]]
    return [*cells, *(marked(document[name], sources.get(name)) for name in VALUES)]


def marked(value: Any, source: str | None) -> str:
    """A value as a cell, followed by the letter of its source (user, table, default, reduced)."""
    text = " ".join(value) if isinstance(value, list | tuple) else str(BLANK if value is None else value)
    return f"{text or BLANK} {_MARKS.get(source or '', '')}".rstrip()
