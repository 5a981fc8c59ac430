"""The coverage run as its command does it, at a size that takes seconds."""

from __future__ import annotations

import re
from pathlib import Path

from bench.coverage import main


def test_two_tiny_models_make_a_document_and_leave_nothing(tmp_path: Path) -> None:
    home, out = tmp_path / "farms", tmp_path / "coverage.md"
    home.mkdir()
    words = [
        "--model",
        "prajjwal1/bert-tiny",
        "--model",
        "prajjwal1/bert-mini",
        "--cards",
        "2",
        "--time",
        "1",
    ]
    assert main([*words, "--folder", str(home), "--out", str(out)]) == 0
    assert list(home.iterdir()) == []
    text = out.read_text()
    assert "| jobs | 2, of 2 models: 2 done |" in text
    assert "| exports within 3w + 1 GiB | 2 of 2 |" in text
    assert "Numbers: emulated, modelled, random weights" in text
    made = re.search(r"\| artifacts made \| 6, [0-9.]+ GiB \|", text)
    assert made, "an export, a reference and a program of each model"
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| prajjwal1/")]
    assert len(rows) == 2
    assert not any("–" in cell for row in rows for cell in row)
