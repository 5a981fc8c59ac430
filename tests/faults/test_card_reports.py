"""What the farm tells of a card that failed: its quarantine and return, the job's way, the result."""

from __future__ import annotations

import json
from typing import Any

from farm.stages.commands import output_samples
from tests.faults.bench import Bench
from tests.faults.test_cards import probe_soon, two_cards


def devices(bench: Bench) -> list[dict[str, Any]]:
    """`farm devices --json`"""
    found: list[dict[str, Any]] = json.loads(bench.farm("devices", "--json").stdout)
    return found


def test_quarantine_probe_and_return_are_told_with_reasons(bench: Bench) -> None:
    two_cards(bench)
    bench.scenario({"tool": "qaic-runner", "fault": "not-ready", "qid": 1})
    bench.records.drain("0")
    campaign = bench.submit(bench.made.job())
    bench.until(lambda: bench.ends(campaign), 20, "failure on card 1")
    bench.records.resume("0")
    bench.until(lambda: bench.runs(campaign)["done"], 20, "result")
    bench.until(lambda: bench.card(1)["health"] == "quarantined", 30, "quarantine")
    well, bad = devices(bench)
    assert bad["health"] == "quarantined"
    assert "golden run: " in bad["reason"]
    assert "Device:1 not in ready state" in bad["reason"]
    assert (well["health"], well["reason"]) == ("good", None)

    [job] = bench.records.jobs(campaign)
    told = json.loads(bench.farm("jobs", job["job"], "--json").stdout)
    first, second = [attempt for attempt in told["history"] if attempt["stage"] == "run"]
    assert (first["device"], first["outcome"], first["error_kind"]) == ("device.1", "failed", "card")
    assert "Device:1 not in ready state" in first["error"]
    assert first["log"].endswith("run.log")
    assert (second["device"], second["outcome"]) == ("device.0", "done")
    bench.do_cpu_stages(("compare",))
    [result] = json.loads(bench.farm("results", campaign, "--json").stdout)
    assert (result["state"], result["device"], result["attempts"]) == ("done", "0", 2)
    assert (result["error_kind"], result["error"]) == (None, None), "what was overcome is history"

    bench.scenario()
    probe_soon(bench, 1)
    bench.good(1)
    back = devices(bench)[1]
    assert (back["health"], back["reason"]) == ("good", None)
    after = bench.submit(bench.made.job(repeat=1, devices=("device.1",)))
    bench.until(lambda: bench.runs(after)["done"], 20, "result on the card that is back")


def test_without_a_good_card_the_campaign_waits_and_says_so(bench: Bench) -> None:
    bench.scenario({"tool": "card", "fault": "status", "status": "Error", "qid": 0})
    bench.coordinator()
    bench.worker()
    campaign = bench.submit(bench.made.job())
    assert "no good card (quarantined): the campaign waits; see farm devices" in bench.farm("status").stdout
    assert devices(bench)[0]["reason"].startswith("status Error")
    assert bench.runs(campaign)["ready"] == 1
    bench.scenario()
    probe_soon(bench, 0)
    bench.until(lambda: bench.runs(campaign)["done"], 30, "result")
    assert [attempt["outcome"] for attempt in bench.history(campaign)] == ["done"]


def test_wrong_outputs_and_figures_are_told_apart(bench: Bench) -> None:
    bench.coordinator()
    bench.worker("compare", "cpu")
    bench.worker()
    bench.good()
    written = output_samples(bench.made.job())  # inferences of a run
    bench.scenario(
        {"tool": "qaic-runner", "fault": "output-nan", "times": written},
        {"tool": "qaic-runner", "fault": "output-wrong", "after": written, "times": written},
        {"tool": "qaic-runner", "fault": "rate-inconsistent", "nth": 3},
    )
    campaign = bench.submit(*(bench.made.job(repeat=n) for n in range(3)))
    bench.until(lambda: bench.records.status(campaign)["state"] == "done", 40, "results")
    results = bench.records.results(campaign)
    nan, wrong, right = sorted(results, key=lambda r: (r["attempts"], r["cosine_min"] is not None))
    assert (nan["accuracy"], nan["cosine_min"]) == ("fail", None)
    assert "not_finite:last_hidden_state" in nan["flags"]
    assert (wrong["accuracy"], wrong["cosine_min"] < 0.5) == ("fail", True)
    assert "low_cosine:last_hidden_state" in wrong["flags"]
    assert all(result["throughput_inf_s"] > 0 for result in (nan, wrong, right)), "the numbers stand"
    assert (right["accuracy"], right["attempts"]) == ("pass", 2)
    first = next(a for a in bench.records.job(right["job"])["history"] if a["stage"] == "run")
    assert (first["outcome"], first["error_kind"]) == ("failed", "host")
    assert "its own figures make" in first["error"]
    assert bench.card()["health"] == "good"
    assert bench.card()["done"] == 3
