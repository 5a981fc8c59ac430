"""Redis is killed while two cards are at work, stays away, and comes back: what is late, lost or done again.

    python bench/bench_redis_away.py [--away S ...]

For each absence (5 and 60 s): eight runs of a few seconds on two emulated cards, the Redis of the records
killed when both are at work. Prints how long after its return the results that waited were recorded and new
work began, and counts runs lost and run again. Exits 1 when there are any, or when results took over 5 s.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from farm.emulator import write_root
from tests.faults.bench import Bench, Made

JOBS = 8
#: What Redis's return may take to be noticed and reported to (the design's bound).
WITHIN_S = 5.0


def away(folder: Path, made: Made, seconds: float) -> bool:
    """One absence; whether nothing was lost, done again or late."""
    bench = Bench(folder, made)
    try:
        bench.coordinator()
        for card in (0, 1):
            bench.worker(f"device.{card}", f"card-{card}")
            bench.good(card)
        bench.slow_runs(1)
        campaign = bench.submit(*(bench.made.job(repeat=n) for n in range(JOBS)))
        bench.until(lambda: len(bench.processes("qaic-runner")) == 2, 30, "two runs")
        bench.redis.kill()
        left = time.monotonic() + seconds
        outbox = bench.home / "outbox"
        bench.files(lambda: time.monotonic() >= left, seconds + 5, "end of the absence")
        waiting = len(list(outbox.glob("*.json")))
        bench.redis.start()
        back = time.monotonic()
        bench.until(lambda: bench.runs(campaign)["done"] >= max(1, waiting), 30, "results")
        reported = time.monotonic() - back
        bench.until(lambda: sum(bench.runs(campaign)[s] for s in ("running", "done")) > 2, 30, "new work")
        began = time.monotonic() - back
        bench.until(lambda: bench.runs(campaign)["done"] == JOBS, 120, "all results")
        again = sum(len(bench.history(campaign, nth)) for nth in range(JOBS)) - JOBS
        lost = JOBS - bench.runs(campaign)["done"]
        print(
            f"away {seconds:4.0f} s: {waiting} results waited on disk; a result was recorded {reported:.1f} s"
            f" and new work begun {began:.1f} s after its return; {lost} lost, {again} run again",
            flush=True,
        )
        return again == 0 and reported <= WITHIN_S
    finally:
        bench.close()


def main(words: Sequence[str]) -> int:
    """Each absence in turn; 1 when a bound is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--away", type=float, nargs="+", default=[5.0, 60.0], metavar="S")
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="farm-away-") as top:
        root = Path(top) / "root"
        write_root(root, cards=2)
        made = Made(root, Path(top))
        held = [away(Path(top) / f"away-{n}", made, seconds) for n, seconds in enumerate(asked.away)]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
