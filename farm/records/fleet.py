"""Workers, cards, bells and the farm clock."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from farm.domain.errors import BadInput
from farm.domain.job import Job, StageKind
from farm.domain.names import show
from farm.domain.result import iso
from farm.domain.sizes import MIB
from farm.records import keys
from farm.records.scripts import Scripts
from farm.records.submissions import queues_of

#: A worker silent for this long on the farm clock is forgotten; its keeper beats every 2 s.
SILENT_MS = 10_000
#: A bell unanswered for this long counts as lost and is rung again.
LOST_BELL_MS = 5_000
#: Waiting that raises a stage's priority by a step.
AGEING_MS = 30 * 60 * 1000
#: A coordinator that has not ticked for this long is not there.
COORDINATOR_MS = 5_000


class Fleet:
    """Who is there to work, and on what."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts
        self._redis = scripts.client

    def register(
        self,
        worker: str,
        queues: Sequence[str],
        *,
        node: str,
        pid: int,
        card: str = "",
        stage: str = "",
        memory: int | None = None,
        store: int | None = None,
        keeper: str = "",
    ) -> None:
        """A worker is there. stage: what it is at, when the records forgot it meanwhile.

        memory, store: its node's budgets in bytes, the last told holds; None leaves what was told before.
        keeper: what its node recognises its keeper by (farm.worker.orphans).
        """
        budgets = ("" if size is None else size // MIB for size in (memory, store))
        queued = json.dumps(list(queues))
        self._scripts.run("register", worker, queued, node, pid, card, stage, *budgets, keeper)

    def keeps_logs(self, node: str, patterns: Mapping[StageKind, str]) -> None:
        """Where the logs of a node's attempts are, by stage kind, with `{stage}` and `{attempt}` in it."""
        self._redis.hset(
            keys.node(node), mapping={f"log:{kind}": pattern for kind, pattern in patterns.items()}
        )

    def beat(self, worker: str) -> float | None:
        """The worker is alive. For how long it has left bells unanswered though it is idle, s.

        None: the records do not know it, register again.
        """
        missed = int(self._scripts.run("beat", worker))
        return None if missed < 0 else missed * LOST_BELL_MS / 1000

    def stopping(self, worker: str) -> None:
        """The worker finishes what it has and claims nothing more."""
        self._scripts.run("leave", worker, 0)

    def leave(self, worker: str) -> None:
        """The worker is gone."""
        self._scripts.run("leave", worker, 1)

    def stage_of(self, worker: str) -> str | None:
        """The stage that the worker has claimed."""
        found: str | None = self._redis.hget(keys.worker(worker), "stage")
        if found is None or self._redis.hmget(keys.stage(found), "state", "worker") != ["claimed", worker]:
            return None
        return found

    def report_card(self, queue: str, facts: Mapping[str, Any]) -> str:
        """What a worker of the card read from it (devices JSON fields). Answers the card's health.

        facts["boot"]: the boot id of its machine. Raises BadInput when workers of another serve the queue.
        """
        answer = str(self._scripts.run("card", queue, json.dumps(dict(facts)), facts.get("nsp_total") or 0))
        if answer == "taken":
            other = self.card_facts(queue).get("node")
            raise BadInput(
                f"queue {queue} is served by workers of another machine ({other}): in a farm of several hosts"
                " each has a name (FARM_NODE), which its queues carry"
            )
        return answer

    def set_health(
        self, queue: str, health: str, reason: str = "", *, strikes: int = 0, again_s: float = 0
    ) -> None:
        """The outcome of a probe or a strike; again_s: how long until a quarantined card is probed again."""
        self._scripts.run("health", queue, health, reason, strikes, int(again_s * 1000))

    def strikes(self, queue: str) -> int:
        """Failed golden runs in a row."""
        return int(self._redis.hget(keys.card(queue), "strikes") or 0)

    def card_queues(self) -> set[str]:
        """The queues of all known cards."""
        return set(self._redis.smembers(keys.CARDS))

    def cards_for(self, job: Job) -> set[str]:
        """Queues of the known cards that the job may run on by name and NSPs, whatever their health."""
        wanted = queues_of(job)
        return {
            queue
            for queue in self.card_queues()
            if (not wanted or queue in wanted)
            and int(self._redis.hget(keys.card(queue), "nsp_total") or 0) >= job.config.cores_needed
        }

    def health(self, queue: str) -> str | None:
        """The card's health, None for an unknown card."""
        found: str | None = self._redis.hget(keys.card(queue), "health")
        return found

    def in_use(self, queue: str) -> bool:
        """Whether the records know of a stage that holds the card now."""
        return bool(self._redis.scard(keys.running(queue)))

    def cards_busy(self) -> int:
        """How many cards run something now."""
        pipe = self._redis.pipeline(transaction=False)
        for queue in self._redis.smembers(keys.CARDS):
            pipe.exists(keys.running(queue))
        return sum(pipe.execute())

    def card_facts(self, queue: str) -> dict[str, Any]:
        """What was told of the card last; empty for an unknown one."""
        facts: dict[str, Any] = json.loads(self._redis.hget(keys.card(queue), "facts") or "{}")
        return facts

    def refresh_card(self, queue: str, facts: Mapping[str, Any]) -> None:
        """Newer readings of a card that is known."""
        self._scripts.run("refresh", queue, json.dumps(dict(facts)))

    def drain(self, device: str, on: bool) -> None:
        """Take a card out of placement, or put it back."""
        queue = device if device.startswith("device.") else f"device.{device}"
        cards = self.card_queues()
        if queue not in cards:
            raise BadInput(f"no card {show(device)}: the farm knows {', '.join(sorted(cards)) or 'none'}")
        now = int(self._redis.time()[0]) * 1000
        self._redis.hset(keys.card(queue), mapping={"drained": "1" if on else "0", "since:drained": now})
        self._redis.publish(keys.CHANGED, queue)

    def ring(self) -> list[str]:
        """The queues to ring now, a name per bell."""
        return list(self._scripts.run("ring", LOST_BELL_MS, AGEING_MS))

    def unring(self, queues: Sequence[str]) -> None:
        """Bells that could not be delivered, a name per bell: missed by nobody, and rung again."""
        if queues:
            self._scripts.run("unring", *queues)

    def halt(self, why: str | None) -> None:
        """Nothing new is to be started, and why; None: it may be again. What runs goes on."""
        self._scripts.run("halt", why or "")

    def halted(self) -> str | None:
        """Why nothing new is started, None where it is."""
        why: str | None = self._redis.hget(keys.META, "halted")
        return why

    def waits(self) -> list[dict[str, Any]]:
        """What ready CPU stages wait for though a worker is idle, a record a kind.

        {"stage": kind, "for": "memory"|"disk", "stages": how many, and of the first of them in bytes:
        "needed", "free", "limit"}
        """
        return [
            {"stage": kind, **wait, **{name: wait[name] * MIB for name in ("needed", "free", "limit")}}
            for kind, wait in ((k, json.loads(v)) for k, v in self._redis.hgetall(keys.WAITS).items())
        ]

    def tick(self, coordinator: str) -> list[str]:
        """Advance the farm clock; the stages whose lease has lapsed."""
        return list(self._scripts.run("tick", coordinator, SILENT_MS))

    def coordinators(self) -> set[str]:
        """The coordinators that ticked lately: host, pid and more, separated by colons."""
        seconds, micros = self._redis.time()
        since = seconds * 1000 + micros // 1000 - COORDINATOR_MS
        return set(self._redis.zrange(keys.COORDINATORS, since, "+inf", byscore=True))

    def coordinator_alive(self) -> bool:
        """Whether some coordinator ticked lately."""
        return bool(self.coordinators())

    def workers(self) -> list[dict[str, Any]]:
        """The workers that are there: worker, queues, node, pid, card, state, stage."""
        names = self._redis.zrange(keys.WORKERS, 0, -1)
        pipe = self._redis.pipeline(transaction=False)
        for name in names:
            pipe.hgetall(keys.worker(name))
        return [
            {"worker": name, **record, "queues": json.loads(record["queues"])}
            for name, record in zip(names, pipe.execute(), strict=True)
            if record
        ]

    def cards(self) -> list[dict[str, Any]]:
        """One record a card: what `farm devices` shows, and what runs on it."""
        queues = sorted(self._redis.smembers(keys.CARDS), key=_by_number)
        pipe = self._redis.pipeline(transaction=False)
        for queue in queues:
            pipe.hgetall(keys.card(queue))
        pipe.hget(keys.META, "clock")
        *records, clock = pipe.execute()
        workers = self.workers()
        return [
            _card(queue, record, [w for w in workers if w.get("card") == queue], int(clock or 0))
            for queue, record in zip(queues, records, strict=True)
        ]


def _by_number(queue: str) -> tuple[str, int]:
    head, _, number = queue.rpartition(".")
    return head, int(number) if number.isdigit() else 0


def _card(
    queue: str, record: Mapping[str, str], workers: Sequence[Mapping[str, Any]], clock: int
) -> dict[str, Any]:
    facts = json.loads(record["facts"])
    running = record.get("stage")
    busy = any(w["state"] != "idle" for w in workers)
    state = (
        "drained"
        if record.get("drained") == "1" and not running
        else "running"
        if running
        else "reserved"
        if busy
        else "idle"
    )
    left = None
    if running:
        left = max(
            0.0, float(record.get("expected") or 0) - (clock - int(record.get("since") or clock)) / 1000
        )
    return {
        "device": queue.removeprefix("device."),
        "queue": queue,
        "node": facts.get("node"),
        "state": state,
        "health": "drained" if record.get("drained") == "1" else record["health"],
        "reason": record.get("reason") or None,
        "since": iso(record.get("since:drained" if record.get("drained") == "1" else "since:health")),
        "sku": facts.get("sku"),
        "nsp_total": facts.get("nsp_total"),
        "nsp_free": facts.get("nsp_free"),
        "serial": facts.get("serial"),
        "pci_address": facts.get("pci_address"),
        "workers": len(workers),
        "queued": sum(1 for w in workers if w["state"] == "busy") - (1 if running else 0),
        "temperature_c": facts.get("temperature_c"),
        "power_w": facts.get("power_w"),
        "seen": facts.get("seen"),
        "job": record.get("job"),
        "left_s": left,
        "done": int(record.get("done") or 0),
    }
