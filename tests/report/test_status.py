"""The status of a campaign and of the cards, as a human reads it."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from rich.console import Console

from farm.report.jobs import requested_grid
from farm.report.status import devices_grid, empty_status, history_view, notes, status_view, summary


def card(**values: Any) -> dict[str, Any]:
    names = ("device", "node", "state", "health", "reason", "sku", "nsp_total", "nsp_free", "serial")
    more = ("pci_address", "workers", "queued", "temperature_c", "power_w", "seen")
    base: dict[str, Any] = dict.fromkeys((*names, *more))
    return base | {"device": "3", "state": "idle", "health": "good", "workers": 2, "queued": 0} | values


def status(**values: Any) -> dict[str, Any]:
    return empty_status([card()]) | {"campaign": "c1"} | values


def text(renderable: Any) -> str:
    console = Console(width=200, color_system=None)
    with console.capture() as captured:
        console.print(renderable)
    return captured.get()


def test_a_campaign_bound_to_cards_that_are_not_there_says_so() -> None:
    found = notes(status(devices=["7"], cards=[card(device="0")]))
    assert found[0].startswith("none of its cards (7) is known: the campaign waits")
    found = notes(status(devices=["0"], cards=[card(device="0", health="quarantined"), card(device="1")]))
    assert found[0].startswith("no good card (quarantined)")


JOBS = {"total": 80, "waiting": 59, "running": 8, "done": 12, "failed": 1, "cancelled": 0}


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"campaign": None}, "no campaign yet"),
        (
            {"state": "running", "jobs": JOBS, "eta_s": 200.0},
            "campaign c1 running: 12 of 80 done, 1 failed, 8 running, about 3 min 20 s left",
        ),
        ({"state": "failed", "jobs": JOBS | {"waiting": 0, "running": 0}, "eta_s": 0.0},
         "campaign c1 failed: 12 of 80 done, 1 failed"),
    ],
)  # fmt: skip
def test_a_campaign_in_one_line(values: dict[str, Any], line: str) -> None:
    assert summary(status(**values)) == line


@pytest.mark.parametrize(
    ("healths", "says"),
    [
        ([], "no card is known"),
        (["quarantined", "drained"], "no good card (drained, quarantined)"),
        (["quarantined", "good"], None),
        (["unknown"], None),
    ],
)
def test_a_campaign_that_cannot_go_on_says_so(healths: list[str], says: str | None) -> None:
    found = notes(status(cards=[card(health=health) for health in healths]))
    assert (says is None and not found) or (says is not None and says in found[0])


def test_a_running_card_shows_its_job_and_the_time_left() -> None:
    running = card(state="running", job="c1.7", left_s=12.4, done=4)
    shown = text(status_view(status(cards=[running])))
    line = next(line for line in shown.splitlines() if "c1.7" in line)
    assert line.split() == ["3", "running", "good", "c1.7", "12", "s", "2", "4"]


def test_a_cards_values_are_shown_with_their_age() -> None:
    now = datetime(2025, 3, 1, 12, 0, 30, tzinfo=timezone.utc)
    seen = card(temperature_c=51.25, nsp_free=10, nsp_total=14, seen="2025-03-01T12:00:00.000Z")
    shown = text(devices_grid([seen], now).rich())
    for part in ("30 s ago", "51.2", "10/14"):
        assert part in shown
    assert "ago" not in text(devices_grid([card()], now).rich())


def test_a_requested_value_is_followed_by_its_source() -> None:
    names = ("batch_size", "seq_length", "cores", "instances", "set_size", "ols", "mos", "opset", "seconds")
    document: dict[str, Any] = dict.fromkeys(names, 1) | {"extra": ["-a", "-b"], "mos": None}
    document |= {"model": "m", "task": "default", "objective": "balanced"}
    document["sources"] = {"batch_size": "user", "extra": "table", "mos": "default", "cores": "derived"}
    [row] = requested_grid([document]).rows
    assert {"1 u", "-a -b t", "– d", "1 r"} <= set(row)


def test_a_history_tells_what_came_after_an_attempt_and_of_archived_results() -> None:
    spec = {"model": "m", "task": "fill-mask", "objective": "balanced"}
    attempt = {"stage": "run", "worker": "host:1:a", "device": "device.0", "log": None, "error": None}
    times = {"started": "2025-03-01T09:12:00Z", "ended": "2025-03-01T09:13:00Z"}
    ends = (
        {"outcome": "lease lapsed", "late": "done"},
        {"outcome": "taken over", "by": "device.1"},
        {"outcome": "parked", "artifact": "compile-ab"},
    )
    history = [{**attempt, **times, "attempt": n, **end} for n, end in enumerate(ends, start=1)]
    shown = text(
        history_view({"job": "c.1", "spec": spec, "state": "done", "archived": 2, "history": history})
    )
    assert "done (2 earlier results archived)" in shown
    for line in (
        "run 1: reported later: done",
        "run 2: taken over by device.1",
        "run 3: another attempt makes compile-ab",
    ):
        assert line in shown
