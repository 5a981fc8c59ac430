"""Cards that are not ready, busy, broken or gone: the job moves on, the card proves itself anew."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from farm.records import keys
from farm.sdk.lock import CardLock
from tests.faults.bench import Bench
from tests.faults.conftest import MakeBench


def two_cards(bench: Bench) -> None:
    bench.coordinator()
    bench.worker("device.0", "zero")
    bench.worker("device.1", "one")
    bench.good(0)
    bench.good(1)


def probe_soon(bench: Bench, device: int) -> None:
    """As if the time until the quarantined card's next probe had passed."""
    bench.records.client.hset(keys.card(f"device.{device}"), "probe_at", 0)


def test_a_card_that_is_not_ready_is_left_out_until_a_golden_run_passes(bench: Bench) -> None:
    bench.scenario({"tool": "card", "fault": "status", "status": "Error", "qid": 0})
    bench.coordinator()
    bench.worker("device.0", "zero")
    bench.worker("device.0", "its-second")
    assert bench.card(0)["health"] == "quarantined"
    assert bench.card(0)["reason"].startswith("status Error")
    bench.worker("device.1", "one")
    campaign = bench.submit(bench.made.job())
    bench.until(lambda: bench.runs(campaign)["done"], 20, "result")
    assert bench.history(campaign)[0]["device"] == "device.1"
    bench.scenario()
    probe_soon(bench, 0)
    bench.good(0)
    assert bench.card(0)["nsp_total"] == 14
    bench.records.drain("1")
    bench.slow_runs(3)
    both = bench.submit(*(bench.made.job(repeat=n) for n in range(2)))
    bench.until(lambda: bench.runs(both)["done"] == 2, 40, "results")
    attempts = [attempt for nth in range(2) for attempt in bench.history(both, nth)]
    assert [a["outcome"] for a in attempts] == ["done"] * 2
    assert len({a["worker"] for a in attempts}) == 2, "also the one that did not prove it"


@pytest.mark.parametrize(
    "rule",
    [
        {"tool": "qaic-runner", "fault": "timeout", "qid": 1},
        {"tool": "card", "fault": "vanish", "qid": 1},
    ],
    ids=["hangs up", "vanishes"],
)
def test_a_run_that_breaks_on_its_card_is_done_on_another(bench: Bench, rule: dict[str, Any]) -> None:
    two_cards(bench)
    bench.scenario(rule, {"tool": "qaic-runner", "fault": "slow", "seconds": 4, "qid": 0})
    campaign = bench.submit(*(bench.made.job(repeat=n) for n in range(2)))
    bench.until(lambda: bench.runs(campaign)["done"] == 2, 40, "results")
    stayed, moved = sorted((bench.history(campaign, nth) for nth in range(2)), key=len)
    assert [a["device"] for a in stayed] == ["device.0"]
    assert [a["device"] for a in moved] == ["device.1", "device.0"]
    assert moved[0]["error_kind"] == "card"
    bench.until(lambda: bench.card(1)["health"] == "quarantined", 30, "quarantine")
    assert bench.card(1)["reason"]
    bench.scenario()
    probe_soon(bench, 1)
    bench.good(1)


def test_a_run_that_hangs_is_ended_at_its_limit_and_done_on_another_card(make_bench: MakeBench) -> None:
    bench = make_bench(FARM_RUN_LIMIT_S="6")
    two_cards(bench)
    bench.scenario({"tool": "qaic-runner", "fault": "hang", "nth": 1})
    campaign = bench.submit(bench.made.job())
    bench.until(lambda: bench.runs(campaign)["done"], 40, "result")
    first, second = bench.history(campaign)
    assert first["error_kind"] == "card"
    assert first["device"] != second["device"]
    assert {bench.card(0)["health"], bench.card(1)["health"]} == {"good"}, "the golden run cleared it"


def test_a_job_bound_to_the_one_card_that_failed_it_comes_to_its_end(make_bench: MakeBench) -> None:
    bench = make_bench(FARM_RUN_LIMIT_S="2")
    two_cards(bench)
    bench.scenario({"tool": "qaic-runner", "fault": "hang", "nth": 1})
    campaign = bench.submit(bench.made.job(devices=("1",)))
    bench.until(lambda: bench.records.status(campaign)["state"] == "failed", 30, "end")
    [attempt] = bench.history(campaign)
    assert (attempt["device"], attempt["error_kind"]) == ("device.1", "input"), (
        "the golden run cleared the card"
    )


def test_a_runner_that_is_killed_is_tried_again_on_the_same_card(bench: Bench) -> None:
    bench.coordinator()
    bench.worker()
    bench.good()
    bench.scenario({"tool": "qaic-runner", "fault": "killed", "times": 1})
    campaign = bench.submit(bench.made.job())
    bench.until(lambda: bench.runs(campaign)["done"], 30, "result")
    first, second = bench.history(campaign)
    assert (first["outcome"], first["error_kind"], second["outcome"]) == ("failed", "host", "done")
    assert bench.card()["health"] == "good"


@pytest.mark.parametrize(
    ("fault", "lacks"),
    [
        ("activate-nsp", "NSP resources"),
        ("activate-memory", "Memory resource exhausted"),
        ("activate-vc", "virtual channel"),
    ],
)
def test_what_a_card_has_too_little_of_is_waited_for_without_blame(
    bench: Bench, fault: str, lacks: str
) -> None:
    bench.coordinator()
    bench.worker()
    bench.good()
    bench.scenario({"tool": "card", "fault": fault, "times": 1})
    campaign = bench.submit(bench.made.job())
    bench.until(lambda: bench.ends(campaign), 20, "refusal")
    bench.until(lambda: bench.runs(campaign)["done"], 30, "result")
    first, second = bench.history(campaign)
    assert (first["error_kind"], lacks in first["error"]) == ("busy", True)
    assert first["device"] == second["device"]
    assert bench.card()["health"] == "good"
    assert not bench.records.jobs(campaign)[0]["error"]


@contextmanager
def stranger(bench: Bench, address: str) -> Iterator[None]:
    """This process holds the card, and the farm's records know nothing of it."""
    lock = CardLock(bench.made.root / "lock", address, 14)
    assert lock.try_exclusive()
    try:
        yield
    finally:
        lock.release()


def test_a_card_held_by_a_stranger_is_handed_back_and_waited_for(bench: Bench) -> None:
    bench.coordinator()
    bench.worker()
    bench.good()
    with stranger(bench, bench.card()["pci_address"]):
        campaign = bench.submit(bench.made.job())
        bench.until(lambda: bench.card()["health"] == "suspect", 20, "suspicion")
        assert f"pid {os.getpid()}" in bench.card()["reason"]
        bench.until(lambda: bench.history(campaign)[0].get("outcome"), 10, "hand-over")
        assert bench.history(campaign)[0]["error_kind"] == "busy"
        tried = bench.probes()
        bench.until(lambda: bench.probes() > tried, 20, "golden run that does not get the card")
        assert bench.card()["health"] == "suspect", "a stranger's hold is no fault of the card"
    bench.good()
    bench.until(lambda: bench.runs(campaign)["done"], 40, "result")


def test_without_the_sdks_test_program_one_is_compiled(bench: Bench) -> None:
    data = bench.made.root / "test-data"
    aside = data.rename(data.with_name("test-data.aside"))
    try:
        bench.coordinator()
        bench.worker()
        bench.good()
        assert (bench.home / "golden" / "device.0" / "qpc" / "programqpc.bin").is_file()
    finally:
        aside.rename(data)


def test_workers_that_share_a_card_run_side_by_side_and_say_so(bench: Bench) -> None:
    bench.coordinator()
    for name in ("one", "two"):
        bench.worker(name=name, FARM_SHARE_CARD="1")
    bench.good()
    bench.slow_runs(5)
    campaign = bench.submit(*(bench.made.job(repeat=n) for n in range(2)))
    bench.until(lambda: bench.records.client.scard("farm:k:device.0:running") == 2, 20, "two runs at once")
    bench.until(lambda: bench.runs(campaign)["done"] == 2, 30, "end of both")
    bench.do_cpu_stages(("compare",))
    assert all("shared_card" in result["flags"] for result in bench.records.results(campaign))


def asked(bench: Bench) -> list[dict[str, Any]]:
    """The calls of qaic-util so far."""
    calls = map(json.loads, (bench.made.root / "state" / "calls.log").read_text().splitlines())
    return [call for call in calls if call["program"] == "qaic-util"]


def test_a_worker_that_starts_while_its_card_measures_does_not_ask_it(bench: Bench) -> None:
    bench.coordinator()
    bench.worker(name="first")
    bench.good()
    bench.slow_runs(90)
    campaign = bench.submit(*(bench.made.job(repeat=n) for n in range(2)))
    runner = bench.runner()
    before = len(asked(bench))
    bench.worker(name="second")
    bench.until(
        lambda: len({w.get("stage") for w in bench.records.fleet.workers()}) == 2, 20, "the second at work"
    )
    assert runner.is_running()
    assert asked(bench)[before:] == [], "nobody asks a card that measures"
    assert (bench.card()["health"], bench.card()["nsp_free"], bench.card()["sku"] is None) == (
        "good",
        14,
        False,
    )
    bench.scenario()
    runner.kill()
    bench.until(lambda: bench.runs(campaign)["done"] == 2, 30, "both results")
