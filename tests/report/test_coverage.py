"""The coverage document: figures from records, nothing invented, and what went wrong said."""

from __future__ import annotations

from typing import Any

from farm.domain.result import FIELDS
from farm.report.coverage import GIB, coverage_report

WEIGHTS = {"export-a": GIB // 2}


def job(model: str, **record: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A finished job's record and its stages, as the records tell them."""
    told = {"cached": False, "seconds": 4.0, "peak_rss_bytes": 2 * GIB}
    stages: dict[str, Any] = {
        kind: {"state": "done", "error": None, "outcome": dict(told)}
        for kind in ("export", "reference", "compile")
    }
    stages["run"] = {"state": "done", "error": None, "outcome": {"run_s": 2.5, "peak_rss_bytes": GIB}}
    stages["compare"] = {"state": "done", "error": None, "outcome": {}}
    known = {"task": "fill-mask", "objective": "balanced", "opset": 13, "state": "done", "weights": "random"}
    known |= {"platform": "emulated", "timing": "modelled", "onnx_key": "export-a", "cosine_min": 0.999998}
    return {**dict.fromkeys(FIELDS), **known, "model": model, **record}, {"job": model, "stages": stages}


def document(*jobs: tuple[dict[str, Any], dict[str, Any]]) -> str:
    results, outcomes = zip(*jobs, strict=True)
    return coverage_report(results, outcomes, WEIGHTS, {"wall time": "10 s"}, "python bench/coverage.py")


def cells(text: str, model: str) -> list[str]:
    [line] = [line for line in text.splitlines() if line.startswith(f"| {model} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_holds_what_the_stages_told() -> None:
    text = document(job("bert-base-cased"))
    row = ["bert-base-cased", "fill-mask", "balanced", "108.3", "13", "0.50", "4.0", "2.00", "2.50"]
    assert cells(text, "bert-base-cased") == [
        *(*row, "4.0", "2.00", "4.0", "2.00", "2.5", "1.00", "0.999998", "done"),
    ]
    assert "| exports within 3w + 1 GiB | 1 of 1 |" in text
    assert "| largest export | 2.00 GiB, bert-base-cased |" in text
    assert "emulated, modelled, random weights" in text
    assert text.endswith("Nothing.\n")


def test_an_export_above_its_limit_is_counted() -> None:
    record, stages = job("bert-base-cased")
    stages["stages"]["export"]["outcome"]["peak_rss_bytes"] = 3 * GIB
    assert "| exports within 3w + 1 GiB | 0 of 1 |" in document((record, stages))


def test_a_reused_artifact_has_no_figures() -> None:
    record, stages = job("bert-base-cased")
    stages["stages"]["export"]["outcome"] |= {"cached": True, "seconds": None}
    text = document((record, stages))
    assert cells(text, "bert-base-cased")[6:8] == ["–", "–"]
    assert "largest export" not in text


def test_what_went_wrong_is_said() -> None:
    failed, none = job(
        "roberta-base", state="failed", error="export: out of memory", onnx_key=None, cosine_min=None
    )
    none["stages"] = {
        kind: {"state": "failed", "error": "no", "outcome": {}}
        for kind in none["stages"]
        if kind != "compare"
    } | {"compare": {"state": "blocked", "error": None, "outcome": {}}}
    odd = job("albert-base-v2", accuracy="fail", cosine_min=0.5)
    text = document((failed, none), odd)
    assert cells(text, "roberta-base")[5:] == [*["–"] * 10, "–", "failed"]
    assert "- roberta-base, fill-mask, balanced: failed: export: out of memory\n" in text
    assert "- roberta-base, fill-mask, balanced: reference failed: no\n" in text
    assert "- albert-base-v2, fill-mask, balanced: cosine 0.500000 is too low\n" in text
    assert "2, of 2 models: 1 failed, 1 done" in text
