"""Result records as a table, CSV, JSON, Markdown or parquet. Every number says where it comes from."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from farm.domain.errors import BadInput
from farm.domain.peers import slow_cards
from farm.domain.result import FIELDS
from farm.report.columns import BLANK, Record, is_comparable, number, origin
from farm.report.grid import PLAIN_WIDTH, Column, Grid
from farm.report.lut_rows import to_lut

_COLUMNS = (
    *(Column("model"), Column("task"), Column("objective")),
    *(Column(heading, numeric=True) for heading in ("batch", "seq", "cores", "inst", "set")),
    *(Column("state"), Column("card"), Column("inf/s", numeric=True), Column("p95 ms", numeric=True)),
    *(Column("published", numeric=True), Column("cosine", numeric=True), Column("accuracy")),
    *(Column("numbers from"), Column("flags")),
)


def results_grid(records: Sequence[Record]) -> Grid:
    """The grid a human reads: configuration, figures and where they come from.

    The published figures (samples/s and p95) stand there only where they are comparable: measured on a
    card with 14 NSPs, at exactly the row's configuration.
    """
    return Grid(_COLUMNS, [_row(record) for record in records])


def _row(record: Record) -> list[str]:
    published = BLANK
    if is_comparable(record):
        published = f"{number(record['published_inf_s'])} / {number(record['published_latency_ms'], 2)}"
    model = str(record["model"])
    return [
        model if not Path(model).is_absolute() else f"…/{'/'.join(Path(model).parts[-2:])}",
        *(str(record[name]) for name in ("task", "objective")),
        *(number(record[name]) for name in ("batch_size", "seq_length", "cores", "instances", "set_size")),
        str(record["state"]),
        BLANK if record.get("device") is None else str(record["device"]),
        number(record.get("throughput_inf_s")),
        number(record.get("latency_ms_p95"), 2),
        published,
        number(record.get("cosine_min"), 6),
        str(record.get("accuracy") or BLANK),
        origin(record),
        str(record["error"]) if record.get("error") else ", ".join(record.get("flags") or ()),
    ]


def slow_notes(records: Sequence[Record]) -> list[str]:
    """`card 3 is slow: 52 % of the median of 7 other cards on bert-base-cased`, a line a card and model."""
    told: dict[tuple[str | None, str, str], str] = {}
    for slow in slow_cards(records):
        where = f"card {slow.device}" + (f" of {slow.node}" if slow.node else "")
        much = f"{slow.share * 100:.0f} % of the median of {slow.peers} other cards on {slow.model}"
        told.setdefault((slow.node, slow.device, slow.model), f"{where} is slow: {much}")
    return list(told.values())


def render(records: Sequence[Record], form: str) -> str:
    """The records in one of the text formats: table, csv, json, md, lut."""
    return _RENDERERS[form](records)


def to_table(records: Sequence[Record]) -> str:
    """The grid as plain text, wide enough that nothing is folded needlessly."""
    console = Console(file=io.StringIO(), width=PLAIN_WIDTH, color_system=None)
    with console.capture() as captured:
        console.print(results_grid(records).rich())
    return captured.get()


def to_markdown(records: Sequence[Record]) -> str:
    """The records as a Markdown table."""
    return results_grid(records).markdown()


def to_json(records: Sequence[Record]) -> str:
    """The records as one JSON list."""
    return json.dumps(list(records), indent=1, allow_nan=False) + "\n"


def to_csv(records: Sequence[Record]) -> str:
    """The records as CSV: a header row of FIELDS; null is empty, lists and maps are JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    for record in records:
        writer.writerow([_plain(record.get(name)) for name in FIELDS])
    return text.getvalue()


def write_parquet(records: Sequence[Record], path: Path) -> None:
    """The records as a parquet file at path. BadInput where pyarrow is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise BadInput("parquet needs pyarrow: pip install 'aic-farm[parquet]', or take csv") from error
    columns = {name: [_plain(record.get(name)) for record in records] for name in FIELDS}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


def _plain(value: Any) -> Any:
    """A value a flat cell can hold; csv does not quote a bare carriage return, so none is left."""
    if isinstance(value, list | tuple | dict):
        return json.dumps(value)
    return "\n".join(value.splitlines()) if isinstance(value, str) and "\r" in value else value


_RENDERERS: dict[str, Callable[[Sequence[Record]], str]] = {
    "table": to_table,
    "csv": to_csv,
    "json": to_json,
    "md": to_markdown,
    "lut": to_lut,
}
