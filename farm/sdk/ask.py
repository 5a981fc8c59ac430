"""Ask a tool something short: run it under a time limit and read what it prints."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from farm.sdk.child import ChildResult, ChildSpec, run_child

#: An answer longer than this is no answer.
_MAX_CHARS = 4_000_000


@dataclass(frozen=True)
class Answer:
    """What a tool printed (stdout and stderr as they came) and how it ended."""

    text: str
    result: ChildResult


def ask(
    argv: Sequence[str], timeout_s: float, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Answer:
    """Run a tool for at most timeout_s; it and all it started are gone on return.

    Raises StageFailed("host") where it cannot be started.
    """
    with tempfile.TemporaryDirectory(prefix="farm-ask-") as folder:
        log = Path(folder, "answer")
        result = run_child(ChildSpec(argv, cwd or Path(folder), log, timeout_s, env))
        with log.open(errors="replace") as file:
            return Answer(file.read(_MAX_CHARS), result)
