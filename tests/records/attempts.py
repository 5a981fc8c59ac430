"""What workers do of their attempts, a step at a time, as the farm's own code does on the records' answers.

Every answer is held against what the records said before it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from farm.domain.digest import digest
from farm.domain.errors import FailureKind
from farm.domain.job import StageKind
from farm.domain.queues import kind_of
from farm.domain.states import Verdict, after_failure
from farm.records import Records, keys
from farm.records.claims import Claim, Probe
from tests.records.promises import Snapshot

MIB = 1024**2
BYTES = {"export": 800 * MIB, "reference": 100 * MIB, "compile": 250 * MIB}
READS: dict[StageKind, set[str]] = {
    "export": set(),
    "reference": {"export"},
    "compile": {"export"},
    "run": {"export", "compile"},
    "compare": {"export", "reference", "run"},
}


def artifact_of(kind: StageKind, ask: Mapping[str, object], export: str | None = None) -> str:
    """The key of the artifact that a stage is asked for."""
    asked = {name: value for name, value in ask.items() if name not in ("again", "must_exist")}
    return f"{kind}-{digest([asked, export], 12)}"


@dataclass
class Hand:
    """An attempt in a worker's hands. step: what its worker has done of it."""

    claim: Claim
    worker: str
    step: str = "claimed"
    artifact: str | None = None
    cancelled: bool = False


@dataclass
class Worker:
    """A worker process and its keeper."""

    name: str
    queues: tuple[str, ...]
    node: str
    memory: int | None = None
    store: int | None = None
    hand: Hand | None = None
    probes: bool = False
    stopping: bool = False
    last: str = ""

    @property
    def card(self) -> str:
        return self.queues[0] if kind_of(self.queues[0]) == "run" else ""

    @property
    def free(self) -> bool:
        """Whether the process would answer a bell, whatever the records take it for."""
        return self.hand is None and not self.probes and not self.stopping


@dataclass
class Attempts:
    """Workers and what they have in hand, the store, and the cards' locks.

    share: cards are shared by the runs that fit together. over: attempts that have no word any more.
    orphans: those whose outcome is on a killed worker's disk.
    """

    records: Records
    share: bool = False
    workers: dict[str, Worker] = field(default_factory=dict)
    store: set[str] = field(default_factory=set)
    condemned: list[str] = field(default_factory=list)
    locks: dict[str, dict[str, int]] = field(default_factory=dict)
    over: list[Hand] = field(default_factory=list)
    orphans: list[Hand] = field(default_factory=list)
    serial: Iterator[int] = field(default_factory=itertools.count)

    def now(self) -> Snapshot:
        return Snapshot(self.records.client)

    def current(self, hand: Hand) -> bool:
        """Whether the attempt is still the stage's own: claimed, or lapsed and claimed by nobody since."""
        state, token = self.records.client.hmget(keys.stage(hand.claim.stage), "state", "token")
        if hand in self.over or hand.cancelled:
            return False
        return token == hand.claim.token and state in ("claimed", "ready")

    def _is_claimed(self, hand: Hand) -> bool:
        """Whether it is current, and its lease has not lapsed."""
        state = self.records.client.hget(keys.stage(hand.claim.stage), "state")
        return self.current(hand) and bool(state == "claimed")

    def _drop(self, worker: Worker) -> None:
        """The attempt is over for its worker."""
        hand = worker.hand
        assert hand is not None
        self._unlock(worker, hand)
        self.over.append(hand)
        # The keeper guards until its worker says that it is over, and may renew in between.
        assert self.records.claims.renew(hand.claim.stage, hand.claim.token, worker.name) != "ok"
        worker.hand, worker.last = None, hand.claim.stage
        self._leave_if_done(worker)

    def _leave_if_done(self, worker: Worker) -> None:
        if worker.stopping and worker.hand is None and not worker.probes:
            self.records.fleet.leave(worker.name)
            del self.workers[worker.name]

    def _unlock(self, worker: Worker, hand: Hand) -> None:
        self.locks.get(worker.card, {}).pop(hand.claim.token, None)

    def _end(self, hand: Hand, say: Callable[[], str]) -> None:
        """Say that the attempt ended, as the records must take it; saying it again changes nothing."""
        mine = self.current(hand)
        assert say() == ("ok" if mine else "late")
        assert say() == ("again" if mine else "late")
        self.over.append(hand)

    def _done(self, hand: Hand, outcome: Mapping[str, object]) -> None:
        self._end(hand, lambda: self.records.claims.done(hand.claim.stage, hand.claim.token, outcome))

    def _ended(
        self, hand: Hand, verdict: Verdict, error: str, *, card: str = "", alone: bool = False
    ) -> None:
        claims, claim = self.records.claims, hand.claim
        self._end(
            hand,
            lambda: claims.ended(claim.stage, claim.token, verdict, error=error, card=card, alone=alone),
        )

    def answer(self, worker: Worker, queue: str) -> None:
        """A free worker answers a bell; its claim is said twice."""
        before = self.now()
        nonce = f"n{next(self.serial)}"
        found = self.records.claims.claim(worker.name, queue, kind_of(queue), nonce)
        if found is None:
            return
        again = self.records.claims.claim(worker.name, queue, kind_of(queue), nonce)
        assert before.workers[worker.name]["state"] == "idle"
        if isinstance(found, Probe):
            assert isinstance(again, Probe)
            worker.probes = True
            return
        assert again == found
        self._judge(before, worker, found)
        worker.hand = Hand(found, worker.name)

    def _judge(self, before: Snapshot, worker: Worker, claim: Claim) -> None:
        stage = before.stages[claim.stage]
        assert claim.attempt == int(stage.get("attempt", 0)) + 1
        assert READS[claim.kind] <= set(claim.inputs), f"{claim.stage} lacks inputs: {sorted(claim.inputs)}"
        if claim.kind == "run":
            card = before.cards[worker.card]
            assert (card["health"], card.get("drained", "0")) == ("good", "0")
            assert int(stage["cores"]) <= int(card["nsp_total"])
            assert worker.card not in json.loads(stage.get("avoid") or "[]")
            assert json.loads(stage["devices"]) in ([], [worker.card])
            assert stage["state"] == "ready" or before.get(f"k:{stage['queue']}:running")
        elif "room" in stage and "memory" in before.get(f"n:{worker.node}"):
            beside = [a.split() for a in before.get("admitted").values() if a.split()[2] == worker.node]
            total = sum(int(a[0]) for a in beside) + int(stage["room"].split()[0])
            assert not beside or total <= int(before.get(f"n:{worker.node}")["memory"])

    def work(self, worker: Worker) -> None:
        hand = worker.hand
        assert hand is not None
        if hand.step == "claimed":
            self._begin(worker, hand)
        elif hand.step == "prepared":
            self._hold(worker, hand)
        else:
            self._finish(worker, hand)

    def _begin(self, worker: Worker, hand: Hand) -> None:
        inputs = hand.claim.inputs
        for kind in ("export", "compile", "reference"):
            if kind in inputs and inputs[kind]["key"] not in self.store:
                return self._repair(worker, hand, kind)
        if hand.claim.kind == "run":
            hand.step = "prepared"
        elif hand.claim.kind == "compare":
            hand.step = "doing"
        else:
            self._build(worker, hand)
        return None

    def _build(self, worker: Worker, hand: Hand) -> None:
        key = artifact_of(hand.claim.kind, hand.claim.ask, hand.claim.inputs.get("export", {}).get("key"))
        while True:
            claimed = self._is_claimed(hand)
            answer = self.records.claims.build(hand.claim, key)
            assert (answer == "lost") == (not claimed)
            if answer == "condemned":
                self.bury([key])
            elif answer == "present" and key not in self.store:
                self.records.claims.absent(key)
            else:
                break
        if answer in ("lost", "wait"):
            self._drop(worker)
            return
        if hand.claim.ask.get("must_exist") and key not in self.store:
            self.fail(worker, "input")
            return
        hand.step, hand.artifact = "doing", key
        if answer == "build" and worker.store is not None:
            self.condemn_over(worker.store)
            self.bury(self.condemned)

    def _repair(self, worker: Worker, hand: Hand, kind: str) -> None:
        claimed = self._is_claimed(hand)
        answer = self.records.claims.repair(hand.claim, kind, hand.claim.inputs[kind]["key"], "gone")
        assert (answer == "late") == (not claimed)
        if answer == "spent":
            self.fail(worker, "host")
        else:
            self._drop(worker)

    def _hold(self, worker: Worker, hand: Hand) -> None:
        job, held = hand.claim.job, self.locks[worker.card]
        assert job is not None
        nsp = 16 if worker.card == "device.1" else 14
        if held and (not self.share or sum(held.values()) + job.config.cores_needed > nsp):
            return
        held[hand.claim.token] = job.config.cores_needed
        claimed = self._is_claimed(hand)
        assert self.records.claims.running(hand.claim.stage, hand.claim.token) == claimed
        if claimed:
            hand.step = "doing"
        else:
            self._unlock(worker, hand)
            self._drop(worker)

    def _publish(self, hand: Hand) -> dict[str, object]:
        """What the attempt made is in the store; its outcome."""
        if hand.artifact is None:
            return {"token": hand.claim.token}
        self.store.add(hand.artifact)
        return {"key": hand.artifact, "bytes": BYTES[hand.claim.kind], "token": hand.claim.token}

    def _finish(self, worker: Worker, hand: Hand) -> None:
        outcome = self._publish(hand)
        self._done(hand, outcome)
        self._drop(worker)

    def fail(self, worker: Worker, kind: FailureKind, *, alone: bool = False) -> None:
        hand = worker.hand
        assert hand is not None
        claim, elsewhere = hand.claim, True
        if kind == "card" and claim.job is not None:
            elsewhere = bool(self.records.fleet.cards_for(claim.job) - {worker.card, *claim.cards_failed})
        verdict = after_failure(kind, claim.failures, claim.cards_failed, (), elsewhere)
        self._ended(hand, verdict, kind, card=worker.card, alone=alone)
        self._drop(worker)

    def hand_back(self, worker: Worker) -> None:
        hand = worker.hand
        assert hand is not None
        claim = hand.claim
        self._end(
            hand, lambda: self.records.claims.hand_back(claim.stage, claim.token, claim.failures, "stopped")
        )
        self._drop(worker)

    def condemn_over(self, limit: int | None) -> None:
        """Condemn down to a limit, or (None) whatever can be."""
        before = self.now()
        artifacts = self.records.artifacts
        for key in artifacts.condemn(10**15) if limit is None else artifacts.over(limit):
            assert before.artifacts[key]["state"] == "condemned" or not before.needed(key), f"{key} is needed"
            self.condemned.append(key)

    def bury(self, condemned: list[str]) -> None:
        for key in list(condemned):
            if self.records.artifacts.is_condemned(key):
                self.store.discard(key)
                assert self.records.artifacts.gone(key)
        self.condemned = [key for key in self.condemned if self.records.artifacts.is_condemned(key)]
