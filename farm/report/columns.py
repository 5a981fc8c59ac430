"""What a number in a result record may be called, and how it is spelled for a human."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]

#: The published figures were measured on cards with this many NSPs.
PUBLISHED_NSPS = 14

#: What stands in a cell whose value was not measured.
BLANK = "–"


def origin(record: Record) -> str:
    """Where a record's numbers come from, e.g. "emulated, modelled, random weights"; never empty."""
    platform = record.get("platform")
    if platform is None:
        return "not run"
    parts = [str(platform)]
    if record.get("timing") != "measured":
        parts.append(str(record.get("timing")))
    if record.get("weights") == "random":
        parts.append("random weights")
    if record.get("head") == "random":
        parts.append("random head")
    return ", ".join(parts)


def is_a_cards(record: Record) -> bool:
    """Whether the record's times were measured on a real card."""
    return record.get("platform") == "aic100" and record.get("timing") == "measured"


def is_comparable(record: Record) -> bool:
    """Whether the record's published figures may stand beside its own: the same card, measured."""
    return (
        is_a_cards(record)
        and record.get("nsp_total") == PUBLISHED_NSPS
        and record.get("published_inf_s") is not None
    )


def number(value: Any, digits: int = 1) -> str:
    """A number for a human, with a fixed number of decimals; BLANK for None."""
    if value is None:
        return BLANK
    if isinstance(value, float):
        return f"{value:,.{digits}f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def seconds(value: float | None) -> str:
    """A duration for a human: "42 s", "3 min 20 s", "2 h 05 min"; BLANK for None."""
    if value is None:
        return BLANK
    total = round(value)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60:02d} s"
    return f"{total // 3600} h {total % 3600 // 60:02d} min"
