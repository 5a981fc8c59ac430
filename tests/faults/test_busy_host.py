"""A host whose CPUs have no time to spare."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.faults.bench import Bench

#: Processes that compute without end, for each CPU.
BURNERS = 4


def test_on_a_host_whose_cpus_are_all_busy_no_lease_lapses(bench: Bench) -> None:
    """The lease of the bench is 3 s; the run is longer."""
    bench.coordinator()
    bench.worker()
    bench.good()
    burners = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(BURNERS * len(os.sched_getaffinity(0)))
    ]
    try:
        campaign = bench.submit(bench.made.job(seconds=7))
        bench.until(lambda: bench.runs(campaign)["done"], 60, "result")
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    assert [attempt["outcome"] for attempt in bench.history(campaign)] == ["done"]
