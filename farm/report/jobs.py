"""Jobs before they run: the configuration, and who decided each value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from farm.report.columns import BLANK
from farm.report.grid import Column, Grid

_VALUES = {
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
    columns += [Column(heading, numeric=name != "extra") for name, heading in _VALUES.items()]
    return Grid(columns, [_row(document) for document in documents])


def _row(document: Mapping[str, Any]) -> list[str]:
    sources = document["sources"]
    cells = [document["model"], _marked(document["task"], sources.get("task")), document["objective"]]
    return [*cells, *(_marked(document[name], sources.get(name)) for name in _VALUES)]


def _marked(value: Any, source: str | None) -> str:
    text = " ".join(value) if isinstance(value, list | tuple) else str(BLANK if value is None else value)
    return f"{text or BLANK} {_MARKS.get(source or '', '')}".rstrip()


def catalogue_grid(entries: Sequence[Mapping[str, Any]]) -> Grid:
    """The catalogue: facts of each model, its rows, and the configuration of each objective."""
    columns = [Column("model"), Column("type"), Column("weights serve"), Column("weights", numeric=True)]
    columns += [Column("longest", numeric=True), Column("rows", numeric=True), Column("task")]
    columns += [Column(configuration["objective"]) for configuration in entries[0]["configurations"]]
    return Grid(columns, [_catalogue_row(entry) for entry in entries])


def _catalogue_row(entry: Mapping[str, Any]) -> list[str]:
    return [
        entry["model"],
        *(str(entry[name] or BLANK) for name in ("model_type", "task")),
        BLANK if entry["params"] is None else f"{entry['params'] / 1e6:,.1f} M",
        str(entry["usable_length"] or BLANK),
        str(len(entry["rows"]) or BLANK),
        ", ".join(dict.fromkeys(job["task"] for job in entry["configurations"])),
        *(_short(job) for job in entry["configurations"]),
    ]


def _short(job: Mapping[str, Any]) -> str:
    """A configuration in a cell: batch x length, cores x instances, set size."""
    return (
        f"{job['batch_size']}x{job['seq_length']} on {job['cores']}x{job['instances']} set {job['set_size']}"
    )
