"""Eight cards at work: nothing overlaps, a second worker prepares, other programs are waited for."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from itertools import pairwise
from typing import Any

from tests.hub.checkpoints import MINILM
from tests.integration.local_farm import LocalFarm


def spans(events: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """The activations of a card as (start, end) on the monotonic clock, from the card's own log."""
    open_at: dict[int, float] = {}
    found = []
    for event in events:
        if event["event"] == "activate":
            assert event["pid"] not in open_at
            open_at[event["pid"]] = event["monotonic"]
        else:
            found.append((open_at.pop(event["pid"]), event["monotonic"]))
    assert not open_at
    return sorted(found)


def run_many(farm: LocalFarm, *, repeat: int, devices: str) -> list[dict[str, Any]]:
    done = farm.run(
        "submit", "-m", MINILM, "-t", "feature-extraction", "-b", "1", "-s", "16", "-c", "2", "-i", "2",
        "--set-size", "1", "--time", "1", "--repeat", str(repeat), "--devices", devices, "--wait",
    )  # fmt: skip
    return farm.results(done.stdout.split()[-1])


def test_two_workers_on_a_card_never_run_at_the_same_time_and_fill_its_time(
    measured_farm: LocalFarm,
) -> None:
    before = len(measured_farm.card_events(3))
    results = run_many(measured_farm, repeat=6, devices="3")
    assert {(r["state"], r["device"]) for r in results} == {("done", "3")}
    runs = spans(measured_farm.card_events(3)[before:])
    assert len(runs) == 6
    assert all(first[1] <= second[0] for first, second in pairwise(runs))
    held = sum(r["card_s"] for r in results)
    assert held <= runs[-1][1] - runs[0][0] + max(r["card_s"] for r in results), "holds follow one another"
    assert len({e["worker"] for r in results for e in history(measured_farm, r["job"], "run")}) == 2


def history(farm: LocalFarm, job: str, stage: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = farm.json("jobs", job)["history"]
    return [entry for entry in found if entry["stage"] == stage]


def test_a_campaign_spreads_over_all_cards(measured_farm: LocalFarm) -> None:
    results = run_many(measured_farm, repeat=16, devices="0-7")
    assert {r["state"] for r in results} == {"done"}
    assert {r["device"] for r in results} == {str(n) for n in range(8)}
    for qid in range(8):
        runs = spans(measured_farm.card_events(qid))
        assert all(first[1] <= second[0] for first, second in pairwise(runs))


def busy_share(results: list[dict[str, Any]]) -> float:
    """The share of the time from the first hold of the card to the end of the last that it was held."""
    starts = [datetime.fromisoformat(r["started"]).timestamp() for r in results]
    held = [r["card_s"] for r in results]
    end = max(start + seconds for start, seconds in zip(starts, held, strict=True))
    return float(sum(held) / (end - min(starts)))


def test_a_second_worker_raises_the_cards_busy_share(modelled_farm: LocalFarm) -> None:
    shares = {}
    for workers in (1, 2):
        with second_worker(modelled_farm, 5) if workers == 2 else nullcontext():
            done = modelled_farm.run(
                "submit", "-m", "bert-base-cased", "-t", "feature-extraction", "-b", "1", "-s", "16",
                "-c", "1", "-i", "1", "--set-size", "1", "--time", "1", "--repeat", "8",
                "--devices", "5", "--wait",
            )  # fmt: skip
        results = modelled_farm.results(done.stdout.split()[-1])
        assert {r["state"] for r in results} == {"done"}
        shares[workers] = busy_share(results)
    assert shares[2] > shares[1], shares


@contextmanager
def second_worker(farm: LocalFarm, qid: int) -> Iterator[None]:
    """One more `farm worker device QID`, there and idle while the block runs."""
    state = farm.state()
    env = {
        **farm.environment(),
        "FARM_REDIS_URL": state["redis_url"],
        "FARM_BROKER_URL": state["broker_url"],
        "FARM_SDK_ROOT": state["sdk_root"],
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "farm", "worker", "device", str(qid), "--name", "second"],
        env=env,
        cwd=farm.cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while farm.json("devices")[qid]["workers"] < 2:
            assert time.monotonic() < deadline, farm.tails()
        yield
    finally:
        process.terminate()
        process.wait(60)
