"""The whole list on a farm with modelled times: every model through every stage, every card used."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from farm.data import LOOKUP_TABLE
from farm.domain.lut import read_lut
from tests.integration.local_farm import LocalFarm


@pytest.mark.timeout(900)  # 110 s where nothing else runs
def test_the_whole_list_runs_to_its_end_and_status_tells_the_truth(modelled_farm: LocalFarm) -> None:
    farm = modelled_farm
    before = done_by_card(farm)
    asked = ("--all-models", "--objective", "best-throughput", "--time", "1")
    campaign = farm.json("submit", *asked)["campaign"]
    waiting = subprocess.Popen(
        [sys.executable, "-m", "farm", "wait", campaign],
        env=farm.environment(),
        cwd=farm.cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        seen = 0
        while waiting.poll() is None:
            check_status(farm.json("status", campaign), seen)
            seen = farm.json("status", campaign)["jobs"]["done"]
        assert waiting.wait(1) == 0, farm.tails()
    finally:
        waiting.kill()
        waiting.wait()
    results = farm.results(campaign)
    assert [r["model"] for r in results] == list(read_lut(LOOKUP_TABLE).models)
    assert Counter(r["state"] for r in results) == {"done": 89}
    assert {r["timing"] for r in results} == {"modelled"}
    assert min(r["cosine_min"] for r in results) >= 0.999
    assert all(set(r["sources"].values()) <= {"table", "default", "user"} for r in results)
    done = {card: count - before[card] for card, count in done_by_card(farm).items()}
    assert sum(done.values()) == 89
    assert min(done.values()) >= 1, f"every card is used: {done}; {farm.json('devices')}\n{farm.tails()}"


def done_by_card(farm: LocalFarm) -> dict[str, int]:
    """Jobs each card has done since the farm was started."""
    return {card["device"]: card["done"] for card in farm.json("status")["cards"]}


def check_status(status: dict[str, Any], done_before: int) -> None:
    """What must hold of every status document, whenever it is asked for."""
    jobs, stages, cards = status["jobs"], status["stages"], status["cards"]
    assert jobs["total"] == 89
    assert sum(jobs[state] for state in ("waiting", "running", "done", "failed", "cancelled")) == 89
    for kind in stages:
        assert min(stages[kind].values()) >= 0
        # Exports, references and compiles may be shared between jobs; a run and a compare are a job's own.
        total = sum(stages[kind].values())
        assert total == 89 if kind in ("run", "compare") else 1 <= total <= 89
    assert jobs["done"] >= done_before, "a finished job stays finished"
    assert jobs["done"] <= stages["run"]["done"]
    assert stages["run"]["done"] - jobs["done"] <= jobs["running"]
    assert sum(card["job"] is not None for card in cards) <= 8
    assert len(cards) == 8
