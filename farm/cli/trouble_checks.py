"""What `farm doctor` finds in the newest campaigns: what failed, what was overcome, what is doubtful."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from farm.cli.check import Check
from farm.domain.names import show

if TYPE_CHECKING:
    from farm.records import Records

#: How many campaigns, newest first, are looked through, and how many causes are told of each sort.
CAMPAIGNS = 3
MOST_CAUSES = 10


def trouble_checks(records: Records) -> Iterator[Check]:
    """A line for each cause, the most frequent first."""
    yield from _failures(records)
    yield from _overcome(records)
    yield from _doubts(records)


def _failures(records: Records) -> Iterator[Check]:
    """A line for each cause, of the newest campaigns; whose fault it was decides whether the farm is ill."""
    failures = records.troubles.failures(CAMPAIGNS)
    if not failures:
        yield Check("failures", "ok", f"none in the last {CAMPAIGNS} campaigns")
    for failure in failures[:MOST_CAUSES]:
        kind = failure["error_kind"] or "unknown"
        yield Check(
            f"failed {failure['stage']}",
            "note" if kind == "input" else "bad",
            f"{failure['stages']} of campaign {failure['campaign']} ({kind}): {_cut(failure['error'])};"
            f" farm jobs {failure['job']}",
        )
    if len(failures) > MOST_CAUSES:
        more = sum(failure["stages"] for failure in failures[MOST_CAUSES:])
        yield Check("failures", "note", f"{more} more, of other causes: farm jobs")


def _overcome(records: Records) -> Iterator[Check]:
    """A line for each sort of attempt that went wrong and was made good, or is tried again."""
    found = records.troubles.overcome(CAMPAIGNS)
    for trouble in found[:MOST_CAUSES]:
        how = (
            f"{trouble['outcome']}, {trouble['error_kind']}" if trouble["error_kind"] else trouble["outcome"]
        )
        where = f" on {trouble['device']}" if trouble["device"] else ""
        why = f": {_cut(trouble['error'])}" if trouble["error"] else ""
        count = f"{trouble['attempts']} attempt{'s' * (trouble['attempts'] > 1)}"
        yield Check(
            f"{trouble['stage']} tried again",
            "note",
            f"{count} of campaign {trouble['campaign']}{where} ({how}){why}; farm jobs {trouble['job']}",
        )
    if len(found) > MOST_CAUSES:
        more = sum(trouble["attempts"] for trouble in found[MOST_CAUSES:])
        yield Check("tried again", "note", f"{more} more attempts, for other reasons: farm jobs")


def _doubts(records: Records) -> Iterator[Check]:
    for campaign, flags in records.troubles.doubts(CAMPAIGNS):
        told = ", ".join(f"{count} {flag}" for flag, count in flags.most_common(MOST_CAUSES))
        yield Check("doubtful results", "note", f"{told}; farm results {campaign}")


def _cut(error: str) -> str:
    return error if len(error) <= 200 else show(error[:200])
