"""What `farm doctor` says of one thing it looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, how it is, and what was seen. A note is no fault everywhere."""

    what: str
    state: Literal["ok", "note", "bad"]
    detail: str
