"""Result records as rows of a look-up table (docs/decisions/0009-lookup-rows.md)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from farm.domain.job import CardConfiguration, Published
from farm.domain.lut import LutRow, rows_to_lut
from farm.report.columns import Record, is_a_cards


def to_lut(records: Sequence[Record]) -> str:
    """A table with the best configuration of each (model, task, objective, precision) that is done.

    A configuration's figures are the medians over its repeats. Where a card has measured any, only cards'
    records count; a row's figures are blank otherwise.
    """
    done = [record for record in records if record["state"] == "done" and _latency(record) is not None]
    return rows_to_lut(_best(group) for group in _groups(done, "model", "task", "objective", "precision"))


def _groups(records: Iterable[Record], *names: str) -> list[list[Record]]:
    """The records with equal values under the names, each group and the groups in order of appearance."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(repr([record[name] for name in names]), []).append(record)
    return list(groups.values())


def _best(records: list[Record]) -> LutRow:
    records = [record for record in records if is_a_cards(record)] or records
    configurations = _groups(
        records, "batch_size", "seq_length", "cores", "instances", "set_size", "ols", "mos", "extra"
    )
    best = max(configurations, key=_merit)
    first = best[0]
    return LutRow(
        line=0,
        model=first["model"],
        task=first["task"],
        objective=first["objective"],
        precision=first["precision"],
        config=CardConfiguration(
            batch_size=first["batch_size"],
            seq_length=first["seq_length"],
            cores=first["cores"],
            instances=first["instances"],
            set_size=first["set_size"],
            ols=first["ols"],
            mos=first["mos"],
            extra=tuple(first["extra"]),
        ),
        published=Published(*_figures(best)) if is_a_cards(first) else None,
    )


def _merit(repeats: Sequence[Record]) -> float:
    """What the objective wants more of."""
    throughput, latency = _figures(repeats)
    if repeats[0]["objective"] == "best-throughput":
        return throughput
    return 1 / latency if repeats[0]["objective"] == "best-latency" else throughput / latency


def _figures(repeats: Sequence[Record]) -> tuple[float, float]:
    """Samples per second and latency in ms."""
    throughput = median(float(record["throughput_inf_s"]) for record in repeats)
    return throughput, median(_latency(record) or 0.0 for record in repeats)


def _latency(record: Record) -> float | None:
    """The p95 with warm-up, as published tables have it; the mean of a run too short for a p95."""
    for name in ("latency_ms_p95_raw", "latency_ms_mean"):
        if record.get(name):
            return float(record[name])
    return None
