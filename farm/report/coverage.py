"""The coverage document: what each model of a campaign cost, stage by stage, and whether its numbers hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from farm.domain.catalogue import Catalogue
from farm.report.columns import BLANK, Record, number, origin
from farm.report.grid import Column, Grid

GIB = 1 << 30

_STAGES = ("export", "reference", "compile", "run")
_COLUMNS = (
    *(Column("model"), Column("task"), Column("objective"), Column("params M", numeric=True)),
    *(Column("opset", numeric=True), Column("weights GiB", numeric=True), Column("export s", numeric=True)),
    *(Column("peak GiB", numeric=True), Column("3w+1 GiB", numeric=True)),
    *(Column("reference s", numeric=True), Column("peak GiB", numeric=True)),
    *(Column("compile s", numeric=True), Column("peak GiB", numeric=True)),
    *(Column("run s", numeric=True), Column("peak GiB", numeric=True)),
    *(Column("cosine", numeric=True), Column("state")),
)


def coverage_report(
    results: Sequence[Record],
    outcomes: Sequence[Mapping[str, Any]],
    weight_bytes: Mapping[str, int],
    totals: Mapping[str, str],
    command: str,
) -> str:
    """The document, in Markdown.

    results and outcomes: a campaign's records and what their stages told (`Records.results`, `.outcomes`),
    in the same order. weight_bytes: the size of each export's fp32 model by artifact key. totals: further
    facts of the run, heading to text. command: what made the document.
    """
    stages = [job["stages"] for job in outcomes]
    rows = [_row(*pair, weight_bytes) for pair in zip(results, stages, strict=True)]
    facts = {**totals, "jobs": _states(results), **_largest(results, stages, weight_bytes)}
    numbers = "; ".join(sorted({origin(r) for r in results if r["state"] == "done"})) or "no run"
    parts = [
        "# Coverage\n",
        f"Made by `{command}`; run it again to make it anew. Numbers: {numbers}. Seconds and memory are this "
        "computer's; nothing here was measured on a card.\n",
        Grid((Column("the run"), Column("")), [[name, text] for name, text in facts.items()]).markdown(),
        "Seconds are those of the stage, peaks the largest resident memory of its child process; w is the "
        "size of the exported fp32 model. A stage that took its artifact from the store has no figures. "
        "cosine: the smallest over samples and outputs, against ONNX Runtime in fp32.\n",
        Grid(_COLUMNS, rows).markdown(),
        "## What did not go well\n",
        "".join(f"- {line}\n" for line in _troubles(results, stages)) or "Nothing.\n",
    ]
    return "\n".join(parts)


def _row(record: Record, stages: Mapping[str, Any], weight_bytes: Mapping[str, int]) -> list[str]:
    weights = weight_bytes.get(str(record["onnx_key"]))
    facts = Catalogue.load().get(str(record["model"]))
    cells = [
        *(str(record[name]) for name in ("model", "task", "objective")),
        number(facts.params / 1e6 if facts else None),
        str(record["opset"]),
        _gib(weights),
    ]
    for kind in _STAGES:
        told = stages[kind]["outcome"]
        cells += [number(told.get("run_s" if kind == "run" else "seconds")), _gib(_peak(told))]
        if kind == "export":
            cells.append(_gib(None if weights is None else 3 * weights + GIB))
    return [*cells, number(record["cosine_min"], 6), str(record["state"])]


def _peak(told: Mapping[str, Any]) -> int | None:
    """A stage's own peak; one that reused an artifact has none."""
    return None if told.get("cached") else told.get("peak_rss_bytes")


def _states(results: Sequence[Record]) -> str:
    states = [str(record["state"]) for record in results]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    return f"{len(results)}, of {len({record['model'] for record in results})} models: {counts}"


def _largest(
    results: Sequence[Record], stages: Sequence[Mapping[str, Any]], weight_bytes: Mapping[str, int]
) -> dict[str, str]:
    """The largest peak of each kind of stage, and how many exports stay within three times their weights."""
    found = {}
    for kind in _STAGES:
        peaks = [
            (peak, str(record["model"]))
            for record, of in zip(results, stages, strict=True)
            if (peak := _peak(of[kind]["outcome"])) is not None
        ]
        if peaks:
            peak, model = max(peaks)
            found[f"largest {kind}"] = f"{_gib(peak)} GiB, {model}"
    held = {
        str(record["onnx_key"]): peak <= 3 * weight_bytes[record["onnx_key"]] + GIB
        for record, of in zip(results, stages, strict=True)
        if record["onnx_key"] in weight_bytes and (peak := _peak(of["export"]["outcome"])) is not None
    }
    if held:
        found["exports within 3w + 1 GiB"] = f"{sum(held.values())} of {len(held)}"
    return found


def _troubles(results: Sequence[Record], stages: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each job that is not done, and for each that is but whose accuracy is not established."""
    lines = []
    for record, of in zip(results, stages, strict=True):
        name = f"{record['model']}, {record['task']}, {record['objective']}"
        if record["state"] != "done":
            lines.append(f"{name}: {record['state']}: {record['error'] or 'no reason recorded'}")
        for kind in ("reference", "compare"):
            if of[kind]["state"] == "failed":
                lines.append(f"{name}: {kind} failed: {of[kind]['error']}")
        if record["accuracy"] == "fail":
            lines.append(f"{name}: cosine {number(record['cosine_min'], 6)} is too low")
    return lines


def _gib(size: int | None) -> str:
    return BLANK if size is None else f"{size / GIB:.2f}"
