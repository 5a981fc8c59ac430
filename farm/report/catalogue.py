"""The catalogue for a human: a table of models, and one model on a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from farm.domain.families import tasks_of
from farm.domain.job import TASKS
from farm.report.columns import BLANK, number
from farm.report.grid import Column, Grid
from farm.report.jobs import VALUES, marked

Entry = Mapping[str, Any]


def models_grid(entries: Sequence[Entry]) -> Grid:
    """A row a model, the columns that matter most first, so that a narrow terminal may drop the last."""
    columns = [Column("model"), Column("params", numeric=True), Column("tokens", numeric=True)]
    columns += [Column("trained for"), Column("family"), Column("rows", numeric=True), Column("task")]
    columns += [Column(configuration["objective"]) for configuration in entries[0]["configurations"]]
    return Grid(columns, [_model_row(entry) for entry in entries])


def _model_row(entry: Entry) -> list[str]:
    return [
        entry["model"],
        _millions(entry["params"]),
        str(entry["usable_length"] or BLANK),
        *(str(entry[name] or BLANK) for name in ("task", "model_type")),
        str(len(entry["rows"]) or BLANK),
        ", ".join(dict.fromkeys(job["task"] for job in entry["configurations"])),
        *(_short(job) for job in entry["configurations"]),
    ]


def _short(job: Entry) -> str:
    """A configuration in a cell: batch x length, cores x instances, set size."""
    return (
        f"{job['batch_size']}x{job['seq_length']} on {job['cores']}x{job['instances']} set {job['set_size']}"
    )


def model_page(entry: Entry) -> Group:
    """A model's facts, and a table a task: each value of each objective's configuration, with its source."""
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(entry).items():
        facts.add_row(name, Text(value))
    tasks = dict.fromkeys(job["task"] for job in entry["configurations"])
    return Group(
        Text(entry["model"], style="bold"),
        facts,
        *(_task_table(task, entry) for task in tasks),
        Text("t = table row, d = default, r = reduced to fit; inf/s and p95 ms as published for a card."),
    )


def _facts(entry: Entry) -> dict[str, str]:
    if entry["model_type"] is None:
        return {"catalogue": "not in it: only the look-up table knows this model"}
    positions = f"{entry['max_positions']} positions, " if entry["max_positions"] else ""
    limit = f"{entry['usable_length']} tokens" if entry["usable_length"] else "no limit"
    blank = {name: BLANK if entry[name] is None else entry[name] for name in ("pad_id", "type_vocab")}
    packages = ", ".join(entry["packages"]) or "none"
    headless = [task for task in TASKS if task not in tasks_of(entry["model_type"])]
    note = f" ({entry['packages_note']})" if entry["packages_note"] else ""
    return {
        "hub id": entry["canonical"] + ("" if entry["listed"] else "; not one of the 80 listed"),
        "family": f"{entry['model_type']}, {entry['architecture'] or 'names no class'}",
        "trained for": entry["task"] + (f", {entry['labels']} labels" if entry["labels"] else ""),
        "without new head": ", ".join(entry["tasks"]),
        "no head for": ", ".join(headless) or "none",
        "sentence pooling": entry["pooling"] or "mean, as sentence-transformers has it where none is named",
        "parameters": f"{_millions(entry['params'])} ({entry['params'] * 4 / (1 << 30):.2f} GiB as fp32)",
        "encoder": f"{entry['layers']} layers, hidden {entry['hidden']}, {entry['heads']} heads, "
        f"intermediate {entry['intermediate']}, {entry['activation']}",
        "vocabulary": f"{number(entry['vocab'])}, pad id {blank['pad_id']}, "
        f"token types {blank['type_vocab']}",
        "longest input": f"{limit} ({positions}{entry['positions']})",
        "tokenizer": entry["tokenizer"] or "class not known",
        "its packages": packages + note,
        "own code": "yes: --trust-remote-code, never with random weights" if entry["remote_code"] else "no",
        "confidence": f"{entry['confidence']} from {entry['evidence']}",
        "doubt": entry["doubt"] or "none",
    }


def _task_table(task: str, entry: Entry) -> Table:
    jobs = [job for job in entry["configurations"] if job["task"] == task]
    known = entry["model_type"] is not None
    head = " (head made from the seed)" if known and task not in entry["tasks"] else ""
    table = Table(
        box=box.SIMPLE_HEAD, title=f"{task}{head}", title_justify="left", title_style="bold", pad_edge=False
    )
    table.add_column("")
    for job in jobs:
        table.add_column(job["objective"], overflow="fold")
    for name, heading in VALUES.items():
        table.add_row(heading, *(Text(marked(job[name], job["sources"].get(name))) for job in jobs))
    table.add_row("inf/s", *(number(job["published_inf_s"]) for job in jobs))
    table.add_row("p95 ms", *(number(job["published_latency_ms"], 2) for job in jobs))
    return table


def _millions(params: int | None) -> str:
    return BLANK if params is None else f"{params / 1e6:,.1f} M"
