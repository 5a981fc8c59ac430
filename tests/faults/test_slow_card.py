"""A card that is slower than the others on the same job is told, and its figures stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from farm.emulator import write_root
from tests.faults.bench import Bench, Made

CARDS = 4


def test_a_slow_card_is_flagged_and_named(tmp_path: Path) -> None:
    write_root(tmp_path / "sdk", cards=CARDS, timing="modelled")
    (tmp_path / "made").mkdir()
    made = Made(tmp_path / "sdk", tmp_path / "made")
    bench = Bench(tmp_path / "bench", made)
    try:
        bench.coordinator()
        for card in range(CARDS):
            bench.start(f"card-{card}", bench.worker_argv(f"device.{card}", f"card-{card}"))
        for card in range(CARDS):
            bench.good(card)
        bench.scenario({"tool": "qaic-runner", "fault": "slow", "factor": 1.5, "qid": 2})
        campaign = bench.submit(*(made.job(repeat=n, devices=(f"device.{n}",)) for n in range(CARDS)))
        bench.until(lambda: bench.runs(campaign)["done"] == CARDS, 30, "results")
        bench.do_cpu_stages(("compare",))
        results = bench.records.results(campaign)
        assert ["slow_card" in result["flags"] for result in results] == [False, False, True, False]
        assert results[2]["throughput_inf_s"] == pytest.approx(results[0]["throughput_inf_s"] / 1.5, rel=0.05)
        told = subprocess.run(
            [sys.executable, "-m", "farm", "results", campaign],
            env=bench.env, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        [note] = [line for line in told.stderr.splitlines() if "slow" in line]
        assert note.startswith("farm: card 2")
        assert "is slow: 67 % of the median of 3 other cards on" in note
        assert bench.card(2)["health"] == "good", "its work is right"
    finally:
        bench.close()
