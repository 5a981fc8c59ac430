"""The farm at a glance: a campaign's stages, the cards, one job's history; for rich and as plain lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from farm.domain.job import STAGE_KINDS
from farm.domain.sizes import show_size
from farm.domain.text import one_line
from farm.report.columns import BLANK, number, seconds
from farm.report.grid import Column, Grid

STAGE_STATES = ("waiting", "ready", "running", "done", "failed", "blocked", "cancelled")
JOB_STATES = ("waiting", "running", "done", "failed", "cancelled")


def empty_status(cards: Sequence[Mapping[str, Any]], halted: str | None = None) -> dict[str, Any]:
    """The status document of a farm that was given no campaign yet."""
    return {
        "campaign": None,
        "state": "waiting",
        "jobs": {"total": 0, **dict.fromkeys(JOB_STATES, 0)},
        "stages": {kind: dict.fromkeys(STAGE_STATES, 0) for kind in STAGE_KINDS},
        "cards": [
            {
                **{name: card.get(name) for name in ("device", "state", "health", "workers")},
                "job": None,
                "done": 0,
            }
            for card in cards
        ],
        "devices": [],
        "waits": [],
        "halted": halted,
        "eta_s": None,
    }


def summary(status: Mapping[str, Any]) -> str:
    """One line: "campaign X running: 12 of 80 done, 1 failed, 8 running, about 3 min 20 s left"."""
    if status["campaign"] is None:
        return "no campaign yet"
    jobs = status["jobs"]
    parts = [f"{jobs['done']} of {jobs['total']} done"]
    parts += [f"{jobs[state]} {state}" for state in ("failed", "running", "cancelled") if jobs[state]]
    if status["eta_s"] is not None and status["state"] in ("waiting", "running"):
        parts.append(f"about {seconds(status['eta_s'])} left")
    return f"campaign {status['campaign']} {status['state']}: {', '.join(parts)}"


def notes(status: Mapping[str, Any]) -> list[str]:
    """What a human must know: nothing new is started, no card may take work, or no room for a stage."""
    own = status["devices"]
    cards = [card for card in status["cards"] if not own or card["device"] in own]
    found = [_wait(wait) for wait in status["waits"]]
    if status["halted"]:
        found = [f"nothing new is started: {status['halted']}", *found]
    if not cards:
        which = f"none of its cards ({', '.join(own)})" if own else "no card"
        return [f"{which} is known: the campaign waits for a card's worker; see farm devices", *found]
    if not any(card["health"] in ("good", "unknown") for card in cards):
        health = ", ".join(sorted({str(card["health"]) for card in cards}))
        return [f"no good card ({health}): the campaign waits; see farm devices", *found]
    return found


def _wait(wait: Mapping[str, Any]) -> str:
    """`3 export wait for memory: 6.2 GiB needed, 3.1 GiB of 14.4 GiB free (--memory-limit)`"""
    limits = {"memory": "--memory-limit", "disk": "--store-limit"}
    sizes = {name: show_size(wait[name]) for name in ("needed", "free", "limit")}
    return (
        f"{wait['stages']} {wait['stage']} wait for {wait['for']}: {sizes['needed']} needed,"
        f" {sizes['free']} of {sizes['limit']} free ({limits[wait['for']]})"
    )


def status_view(status: Mapping[str, Any]) -> RenderableType:
    """The whole picture of one campaign."""
    stages = Grid(
        [Column("stage"), *(Column(state, numeric=True) for state in STAGE_STATES)],
        [
            [kind, *(str(counts[state] or BLANK) for state in STAGE_STATES)]
            for kind, counts in status["stages"].items()
        ],
    )
    cards = Grid(
        [
            *(Column("card"), Column("state"), Column("health"), Column("job")),
            *(Column("left", numeric=True), Column("workers", numeric=True), Column("done", numeric=True)),
        ],
        [_card_row(card) for card in status["cards"]],
    )
    return Group(
        Text(summary(status), style="bold"),
        *(Text(note, style="yellow") for note in notes(status)),
        stages.rich(),
        cards.rich(),
    )


def _card_row(card: Mapping[str, Any]) -> list[str]:
    return [
        *(str(card[name]) for name in ("device", "state", "health")),
        str(card["job"] or BLANK),
        seconds(card.get("left_s")),
        number(card["workers"]),
        number(card["done"]),
    ]


def devices_grid(cards: Sequence[Mapping[str, Any]], now: datetime) -> Grid:
    """Every card of the farm: health, SKU, free NSPs, workers, queue, temperature, power, and their age."""
    return Grid(
        [
            *(Column("card"), Column("node"), Column("state"), Column("health"), Column("SKU")),
            *(Column("NSPs free", numeric=True), Column("workers", numeric=True)),
            *(Column("queued", numeric=True), Column("°C", numeric=True), Column("W", numeric=True)),
            *(Column("serial"), Column("PCI address"), Column("seen"), Column("reason")),
        ],
        [
            [
                *(_text(card[name]) for name in ("device", "node", "state", "health", "sku")),
                f"{_text(card['nsp_free'])}/{_text(card['nsp_total'])}",
                *(number(card[name]) for name in ("workers", "queued", "temperature_c", "power_w")),
                *(_text(card[name]) for name in ("serial", "pci_address")),
                _age(card["seen"], now),
                _text(card["reason"]),
            ]
            for card in cards
        ],
    )


def jobs_grid(jobs: Sequence[Mapping[str, Any]]) -> Grid:
    """The jobs of a campaign."""
    names = ("job", "model", "task", "objective", "state")
    return Grid(
        [*(Column(name) for name in names), Column("attempts", numeric=True), Column("error")],
        [[*(_text(job[name]) for name in names), number(job["attempts"]), _error(job)] for job in jobs],
    )


def history_view(job: Mapping[str, Any]) -> RenderableType:
    """A job's attempts, oldest first, then the log of each and what it met; fits 100 columns."""
    history = job["history"]
    spec = job["spec"]
    title = f"{job['job']}: {spec['model']}, {spec['task']}, {spec['objective']}: {job['state']}"
    if job["archived"]:
        title += f" ({job['archived']} earlier results archived)"
    days = " to ".join(dict.fromkeys(attempt["started"][:10] for attempt in (*history[:1], *history[-1:])))
    names = ("stage", "#", "worker", "card", "started", "ended", "outcome")
    return Group(
        Text(one_line(title), style="bold"),
        Text(f"{days}, UTC" if history else "no attempt yet"),
        *(
            [Grid([Column(name) for name in names], [_attempt_row(a) for a in history]).rich()]
            * bool(history)
        ),
        *(Text(line, overflow="fold") for attempt in history for line in _attempt_lines(attempt)),
    )


def _attempt_row(attempt: Mapping[str, Any]) -> list[str]:
    worker = str(attempt["worker"])
    return [
        *(attempt["stage"], str(attempt["attempt"])),
        worker.rpartition(":")[0] or worker,  # of <node>:<pid>:<random> what a human looks for
        _text(attempt["device"]),
        *(_text(attempt[at] and attempt[at][11:19]) for at in ("started", "ended")),
        attempt["outcome"] or "running",
    ]


def _attempt_lines(attempt: Mapping[str, Any]) -> list[str]:
    notes = (("by", "taken over by"), ("artifact", "another attempt makes"), ("late", "reported later:"))
    found = [
        attempt["log"] and f"log {attempt['log']}",
        _error(attempt),
        *(f"{words} {attempt[name]}" for name, words in notes if attempt.get(name)),
    ]
    return [one_line(f"{attempt['stage']} {attempt['attempt']}: {text}") for text in found if text]


def campaigns_grid(campaigns: Sequence[Mapping[str, Any]]) -> Grid:
    """Every campaign, as the records order them."""
    names = ("campaign", "label", "priority", "state", "jobs", "created")
    numeric = ("priority", "jobs")
    return Grid(
        [Column(name, numeric=name in numeric) for name in names],
        [
            [_text(campaign["jobs"]["total"] if name == "jobs" else campaign[name]) for name in names]
            for campaign in campaigns
        ],
    )


def _age(seen: str | None, now: datetime) -> str:
    """How old the values are that were seen at an ISO 8601 time: nobody queries a card while it measures."""
    if seen is None:
        return BLANK
    age = now - datetime.fromisoformat(seen.replace("Z", "+00:00"))
    return f"{seconds(max(0.0, age.total_seconds()))} ago"


def _text(value: Any) -> str:
    return BLANK if value is None or value == "" else str(value)


def _error(entry: Mapping[str, Any]) -> str:
    if not entry.get("error"):
        return ""
    return f"{entry['error_kind']}: {entry['error']}" if entry.get("error_kind") else str(entry["error"])
