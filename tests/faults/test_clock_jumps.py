"""A node's time of day jumps while it works: nobody else gets its stage, and it is done once."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path

from tests.faults.bench import ROOT, Bench

HERE = Path(__file__).parent


def test_a_node_whose_clock_jumps_keeps_its_run(bench: Bench) -> None:
    shift = bench.folder / "shift"
    shift.write_text("0")
    bench.coordinator()
    node = {"SHIFTED_CLOCK": str(shift), "PYTHONPATH": f"{HERE / 'shifted_clock'}:{ROOT}"}
    bench.worker("device.0", "jumping", **node)
    bench.worker("device.1", "steady")
    bench.good(0)
    bench.good(1)
    bench.records.drain("1")
    bench.slow_runs(3)
    campaign = bench.submit(bench.made.job())
    bench.runner()
    bench.records.resume("1")
    for seconds, ticks in (("3600", 800), ("-7200", 1600)):
        aside = shift.with_suffix(".new")
        aside.write_text(seconds)
        aside.rename(shift)
        since = bench.clock()
        bench.until(lambda s=since, t=ticks: bench.clock() - s > t, 10, "time on the farm clock")  # type: ignore[misc]
    bench.until(lambda: bench.runs(campaign)["done"], 20, "result")
    [only] = bench.history(campaign)
    assert (only["device"], only["outcome"]) == ("device.0", "done")
    assert (bench.card(0)["done"], bench.card(1)["done"]) == (1, 0)
    bench.scenario()
    after = bench.submit(bench.made.job(repeat=1))
    bench.until(lambda: bench.runs(after)["done"], 20, "next result")
    said = re.findall(
        r"^\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)", (bench.folder / "jumping.log").read_text(), re.MULTILINE
    )
    times = [datetime.fromisoformat(text) for text in said]
    assert max(times) - min(times) > timedelta(hours=1), "the clock did jump"
