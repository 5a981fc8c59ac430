"""The look-up table: tuned card configurations by model, task, objective and precision, and their figures."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar, cast

from farm.domain.errors import BadInput
from farm.domain.job import OBJECTIVES, TASKS, CardConfiguration, Objective, Published, Task
from farm.domain.names import show, split_model, why
from farm.domain.options import BY_FIELD, one_of, parse_whole, span, split_extra

#: The columns, in the order they are written. Source: the SDK's own table, docs/sdk.md.
COLUMNS = (
    "MODEL_NAME", "TASK", "BATCH_SIZE", "SEQUENCE_LENGTH", "CORES", "INSTANCES", "OLS", "MOS", "EXTRA",
    "SET_SIZE", "PRECISION", "OBJECTIVE", "THPS", "LATENCY",
)  # fmt: skip

T = TypeVar("T")

_FIELDS = {
    "BATCH_SIZE": "batch_size",
    "SEQUENCE_LENGTH": "seq_length",
    "CORES": "cores",
    "INSTANCES": "instances",
    "OLS": "ols",
    "MOS": "mos",
    "SET_SIZE": "set_size",
}
_FIGURE = re.compile(r"[0-9]{1,20}(?:\.[0-9]{0,20})?(?:[eE][+-]?[0-9]{1,3})?")
_PRECISION = re.compile(r"[a-z0-9_]{1,32}")


@dataclass(frozen=True)
class LutRow:
    """A row: `line` is its line in the file (from 1), published its figures, None where it has none."""

    line: int
    model: str
    task: Task
    objective: Objective
    precision: str
    config: CardConfiguration
    published: Published | None = None

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What a table has at most one row for."""
        return self.model, self.task, self.objective, self.precision


@dataclass(frozen=True)
class LookupTable:
    """The rows in file order, where they come from, and the SHA-256 of the file's bytes."""

    rows: tuple[LutRow, ...]
    source: str
    digest: str

    @cached_property
    def _by_key(self) -> Mapping[tuple[str, str, str, str], LutRow]:
        return {row.key: row for row in self.rows}

    @cached_property
    def _by_model(self) -> Mapping[str, tuple[LutRow, ...]]:
        found: dict[str, list[LutRow]] = {}
        for row in self.rows:
            found.setdefault(row.model, []).append(row)
        return {model: tuple(rows) for model, rows in found.items()}

    @property
    def models(self) -> tuple[str, ...]:
        """The models, in the order of their first rows."""
        return tuple(self._by_model)

    def has(self, model: str) -> bool:
        """Whether the table has a row of the model."""
        return model in self._by_model

    def row(self, model: str, task: str, objective: str, precision: str = "fp16") -> LutRow | None:
        """The row of a key, None where there is none."""
        return self._by_key.get((model, task, objective, precision))

    def tasks(self, model: str, objective: str | None = None, precision: str = "fp16") -> tuple[Task, ...]:
        """The tasks that have rows for a model (and objective), in file order."""
        return tuple(
            dict.fromkeys(r.task for r in self._of(model, precision) if objective in (None, r.objective))
        )

    def objectives(
        self, model: str, task: str | None = None, precision: str = "fp16"
    ) -> tuple[Objective, ...]:
        """The objectives that have rows for a model (and task), in file order."""
        return tuple(dict.fromkeys(r.objective for r in self._of(model, precision) if task in (None, r.task)))

    def first_task(self, model: str, objective: str, precision: str = "fp16") -> Task | None:
        """The task of the first row of (model, objective), else of the model's first row, else None."""
        tasks = self.tasks(model, objective, precision) or self.tasks(model, None, precision)
        return tasks[0] if tasks else None

    def _of(self, model: str, precision: str) -> Iterator[LutRow]:
        return (row for row in self._by_model.get(model, ()) if row.precision == precision)


def read_lut(path: str | Path) -> LookupTable:
    """Read a table. Raises BadInput naming file, line, column, value and what is allowed.

    Taken as they come: a byte order mark, blank rows, padded cells, columns in any order or case, further
    columns, and whole numbers written `2.0`. A blank OLS, MOS or EXTRA means the flag is left out; a row
    without both figures has none published.
    """
    try:
        raw = Path(path).read_bytes()
        text = raw.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise BadInput(f"look-up table {show(str(path))} cannot be read: {why(error)}") from None
    rows: dict[tuple[str, str, str, str], LutRow] = {}
    for line, cells in _records(str(path), text):
        try:
            row = _row(line, cells)
            if row.key in rows:
                raise BadInput(
                    f"{', '.join(row.key)} is already in line {rows[row.key].line}; keep one of the two"
                )
        except BadInput as error:
            raise BadInput(f"{path}, line {line}: {error}") from None
        rows[row.key] = row
    return LookupTable(tuple(rows.values()), str(path), hashlib.sha256(raw).hexdigest())


def rows_to_lut(rows: Iterable[LutRow]) -> str:
    """The rows as a table that `read_lut` takes, with a header, whatever their line numbers."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        config, figures = row.config, row.published
        cells: dict[str, object] = {column: getattr(config, field) for column, field in _FIELDS.items()}
        cells |= {
            "MODEL_NAME": row.model,
            "TASK": row.task,
            "EXTRA": shlex.join(config.extra),
            "PRECISION": row.precision,
            "OBJECTIVE": row.objective,
            "THPS": _spell(figures.inf_s) if figures else "",
            "LATENCY": _spell(figures.latency_ms) if figures else "",
        }
        writer.writerow([cells[column] for column in COLUMNS])
    return out.getvalue()


def _spell(figure: float) -> str:
    return str(int(figure)) if figure.is_integer() and figure < 1e15 else repr(figure)


def _records(path: str, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows that are not blank, by column name, with the line each starts on."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if any(cells):
                if header is None:
                    header = _header(path, line, cells)
                else:
                    if len(cells) < len(header) or any(cells[len(header) :]):
                        raise BadInput(
                            f"{path}, line {line}: {len(cells)} cells under a header of {len(header)}"
                        )
                    yield line, dict(zip(header, cells, strict=False))
            line = reader.line_num + 1
    except csv.Error as error:
        raise BadInput(f"{path}, line {line}: {error}") from None
    if header is None:
        raise BadInput(f"{path} is empty; a look-up table starts with the header {','.join(COLUMNS)}")


def _header(path: str, line: int, cells: list[str]) -> list[str]:
    names = [cell.upper() for cell in cells]
    for column in COLUMNS:
        if names.count(column) != 1:
            fault = "is missing" if column not in names else "is there more than once"
            raise BadInput(f"{path}, line {line}: column {column} {fault}; needed: {', '.join(COLUMNS)}")
    return names


def _row(line: int, cells: Mapping[str, str]) -> LutRow:
    _, model, revision = _of_column("MODEL_NAME", split_model, cells)
    if revision is not None:
        raise BadInput(f"column MODEL_NAME: {show(cells['MODEL_NAME'])} names a revision; leave it out")
    numbers = {
        field: None if not cells[column] and column in ("OLS", "MOS") else _whole(column, cells)
        for column, field in _FIELDS.items()
    }
    config = CardConfiguration(**cast(dict[str, int], numbers), extra=_of_column("EXTRA", split_extra, cells))
    precision = cells["PRECISION"]
    if not _PRECISION.fullmatch(precision):
        raise BadInput(f"column PRECISION: {show(precision)} is no precision; use fp16")
    inf_s, latency_ms = _figure("THPS", cells), _figure("LATENCY", cells)
    return LutRow(
        line=line,
        model=model,
        task=cast(Task, _choice("TASK", cells, TASKS)),
        objective=cast(Objective, _choice("OBJECTIVE", cells, OBJECTIVES)),
        precision=precision,
        config=config,
        published=None if inf_s is None or latency_ms is None else Published(inf_s, latency_ms),
    )


def _of_column(column: str, parse: Callable[[str], T], cells: Mapping[str, str]) -> T:
    try:
        return parse(cells[column])
    except BadInput as error:
        raise BadInput(f"column {column}: {error}") from None


def _whole(column: str, cells: Mapping[str, str]) -> int:
    value = parse_whole(f"column {column}:", cells[column])
    option = BY_FIELD[_FIELDS[column]]
    if value < (option.low or 0) or (option.high is not None and value > option.high):
        raise BadInput(f"column {column}: {value} is out of range; allowed: {span(option.low, option.high)}")
    return value


def _choice(column: str, cells: Mapping[str, str], allowed: tuple[str, ...]) -> str:
    if cells[column] not in allowed:
        raise BadInput(f"column {column}: {show(cells[column])} is not known; allowed: {one_of(allowed)}")
    return cells[column]


def _figure(column: str, cells: Mapping[str, str]) -> float | None:
    text = cells[column]
    if not text:
        return None
    value = float(text) if _FIGURE.fullmatch(text) else math.nan
    if not 0 < value < math.inf:
        raise BadInput(f"column {column}: {show(text)} is not a positive number; leave it blank if not known")
    return value
