"""What the farm's files take on a host's disk, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from farm.domain.sizes import show_size
from farm.report.grid import Column, Grid


def prune_view(document: Mapping[str, Any]) -> RenderableType:
    """The document of `farm prune` (farm.worker.pruning) for a terminal."""
    rows = [
        [
            kind,
            str(row["artifacts"]),
            show_size(row["bytes"]),
            str(row["unneeded"]),
            show_size(row["unneeded_bytes"]),
        ]
        for kind, row in document["kinds"].items()
    ]
    attempts, unknown = document["attempts"], document["unknown"]
    rows.append(["old attempts", *[str(attempts["folders"]), show_size(attempts["bytes"])] * 2])
    if unknown["artifacts"]:
        rows.append(["unknown", str(unknown["artifacts"]), show_size(unknown["bytes"]), "0", show_size(0)])
    headings = ("there", "size", "may go", "size")
    grid = Grid([Column("what"), *(Column(heading, numeric=True) for heading in headings)], rows)
    lines = [f"{document['store']}: {show_size(document['disk_free'])} of its disk are free"]
    if document["removed"]:
        lines.append(
            f"freed {show_size(document['freed'])}: {len(document['removed'])} artifacts and attempts"
        )
    return Group(*(Text(line, style="bold") for line in lines), grid.rich())
