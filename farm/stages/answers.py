"""The answer a child of a stage leaves in a file, and what can be said when there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from farm.sdk.child import ChildResult

#: How much of a log's end is looked at, and of its last line told.
_TAIL_BYTES = 4096
_MOST_CHARS = 200


def read_answer(answer: Path) -> dict[str, Any] | None:
    """What the child answered; None where it left nothing, or half of it as on a full disk."""
    try:
        told: dict[str, Any] = json.loads(answer.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return told


def no_answer(what: str, result: ChildResult) -> str:
    """`<what> ended with status 1 and no answer: <the last line of its log>`"""
    how = f"signal {result.signal}" if result.signal is not None else f"status {result.returncode}"
    with result.log.open("rb") as log:
        log.seek(max(0, log.seek(0, 2) - _TAIL_BYTES))
        lines = log.read().decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"{what} ended with {how} and no answer" + (f": {last[:_MOST_CHARS]}" if last else "")
