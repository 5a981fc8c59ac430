"""How long a campaign will take still."""

from __future__ import annotations


def time_left(jobs: int, runs_s: float, cards: int, pace_s: float | None, cpu_stages: int) -> float | None:
    """Seconds until `jobs` have ended: what the cards need, and no less than the pace so far says.

    runs_s: the runs to come, added up, on so many good cards. pace_s: from one job's end to the next. None
    where nothing can be said: no card is good, or CPU stages are to come and their pace is not known yet.
    """
    if not jobs:
        return 0.0
    if not cards or (cpu_stages and pace_s is None):
        return None
    by_pace = jobs * pace_s if cpu_stages and pace_s is not None else 0.0
    return round(max(runs_s / cards, by_pace), 1)
