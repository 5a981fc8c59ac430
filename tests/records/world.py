"""What is around the records: workers and their keepers, a store, locks of cards, bells, coordinators.

Each does what the farm's own code does with the records' answers, and holds every answer against what the
records said before it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from farm.bells import Bells
from farm.coordinator import Coordinator
from farm.domain.digest import digest
from farm.domain.errors import FailureKind
from farm.domain.job import Job, StageKind
from farm.domain.queues import kind_of
from farm.domain.states import FINAL, Verdict, after_failure
from farm.records import Records, keys
from farm.records.claims import Claim, Probe
from tests.records import scene
from tests.records.promises import History, Snapshot, check

MIB = 1024**2
BYTES = {"export": 800 * MIB, "reference": 100 * MIB, "compile": 250 * MIB}
READS: dict[StageKind, set[str]] = {
    "export": set(),
    "reference": {"export"},
    "compile": {"export"},
    "run": {"export", "compile"},
    "compare": {"export", "reference", "run"},
}
#: Past and future enough for anything that is judged by Redis's own time.
LONG_AGO, FAR_AHEAD = 0, 10**15


class Rung(Bells):
    """Bells that go into a list: a test delivers them, loses them or doubles them."""

    def __init__(self) -> None:
        self.under_way: list[str] = []

    def ring(self, queues: Iterable[str]) -> int:
        rung = list(queues)
        self.under_way += rung
        return len(rung)


@dataclass
class Hand:
    """An attempt in a worker's hands. step: what its worker has done of it."""

    claim: Claim
    worker: str
    step: str = "claimed"
    artifact: str | None = None


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
class World:
    """One farm's surroundings. share: cards are shared by the runs that fit together."""

    records: Records
    share: bool = False
    workers: dict[str, Worker] = field(default_factory=dict)
    store: set[str] = field(default_factory=set)
    condemned: list[str] = field(default_factory=list)
    locks: dict[str, dict[str, int]] = field(default_factory=dict)
    over: list[Hand] = field(default_factory=list)
    orphans: list[Hand] = field(default_factory=list)
    history: History = field(default_factory=History)
    bells: Rung = field(default_factory=Rung)
    campaigns: list[str] = field(default_factory=list)
    serial: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.records.client.flushdb()
        self.coordinators = [Coordinator(self.records, self.bells, name) for name in ("one", "two")]
        self._pass(0)

    # --- looking

    def now(self) -> Snapshot:
        return Snapshot(self.records.client)

    def check(self) -> None:
        now = self.now()
        check(now)
        self.history.check(now)
        for queue, held in self.locks.items():
            assert len(held) < 2 or (self.share and sum(held.values()) <= int(now.cards[queue]["nsp_total"]))

    def current(self, hand: Hand) -> bool:
        """Whether the attempt is still the stage's own: claimed, or lapsed and claimed by nobody since."""
        state, token = self.records.client.hmget(keys.stage(hand.claim.stage), "state", "token")
        return hand not in self.over and token == hand.claim.token and state in ("claimed", "ready")

    def _is_claimed(self, hand: Hand) -> bool:
        """Whether it is current, and its lease has not lapsed."""
        state = self.records.client.hget(keys.stage(hand.claim.stage), "state")
        return self.current(hand) and bool(state == "claimed")

    def jobs(self, *states: str) -> list[str]:
        """The jobs in these states, in the order of their submission."""
        found = (job for campaign in self.campaigns for job in self.records.jobs(campaign))
        return [job["job"] for job in found if job["state"] in states]

    # --- workers come, beat and go

    def start(
        self,
        queues: tuple[str, ...],
        *,
        node: str = "one",
        memory: int | None = None,
        store: int | None = None,
    ) -> Worker:
        worker = Worker(f"worker-{next(self.serial)}", queues, node, memory, store)
        self.workers[worker.name] = worker
        self._register(worker, "")
        if worker.card:
            nsp = 16 if worker.card == "device.1" else 14
            self.records.fleet.report_card(worker.card, {"nsp_total": nsp, "pci_address": worker.card})
            self.locks.setdefault(worker.card, {})
        return worker

    def _register(self, worker: Worker, stage: str) -> None:
        self.records.fleet.register(
            worker.name, worker.queues, node=worker.node, pid=1, card=worker.card, stage=stage,
            memory=worker.memory, store=worker.store,
        )  # fmt: skip

    def beat(self, worker: Worker, *, stale: bool = False) -> None:
        """Its keeper beats and renews. stale: it has not been told yet that the attempt is over."""
        if not worker.stopping:
            self.records.fleet.beat(worker.name)
            if self.records.client.zscore(keys.WORKERS, worker.name) is None:
                at = worker.hand.claim.stage if worker.hand else worker.last if stale else ""
                self._register(worker, at)
        self.renew(worker)

    def renew(self, worker: Worker) -> None:
        hand = worker.hand
        if hand is None:
            return
        mine = self.current(hand)
        answer = self.records.claims.renew(hand.claim.stage, hand.claim.token, worker.name)
        assert (answer == "ok") == mine, f"renew of {hand}: {answer}"
        if answer != "ok":
            self._drop(worker)

    def stop(self, worker: Worker) -> None:
        worker.stopping = True
        self.records.fleet.stopping(worker.name)
        self._leave_if_done(worker)

    def _leave_if_done(self, worker: Worker) -> None:
        if worker.stopping and worker.hand is None and not worker.probes:
            self.records.fleet.leave(worker.name)
            del self.workers[worker.name]

    def kill(self, worker: Worker, *, keeper: bool, wrote: bool) -> None:
        """kill -9, of its keeper too or not. wrote: its outcome is on its disk, a later worker reports it."""
        del self.workers[worker.name]
        hand = worker.hand
        if hand is not None:
            self._unlock(worker, hand)
        if keeper:
            if hand is not None and wrote and hand.step == "doing":
                self._publish(hand)
                self.orphans.append(hand)
            return
        if hand is not None:
            failed = after_failure("host", hand.claim.failures, hand.claim.cards_failed)
            self._ended(hand, replace(failed, delay_s=0.0), "killed")
        self.records.fleet.leave(worker.name)

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

    # --- bells and claims

    def ring(self) -> None:
        self.bells.ring(self.records.fleet.ring())
        self._date_bells(FAR_AHEAD)

    def deliver(self) -> None:
        """Each bell under way goes to a free worker of its queue, if there is one."""
        under_way, self.bells.under_way = self.bells.under_way, []
        for queue in under_way:
            for worker in [w for w in self.workers.values() if w.free and queue in w.queues][:1]:
                self.answer(worker, queue)

    def _date_bells(self, at: int) -> None:
        """Bells are lost when a rule says so, however long a step takes."""
        for queue in self.records.client.hkeys("farm:bells:at"):
            self.records.client.hset("farm:bells:at", queue, at)

    def _pass(self, by: int) -> None:
        """A coordinator's pass, in which the farm clock does not follow the real time."""
        self.records.client.hset(keys.META, "wall", FAR_AHEAD)
        self.coordinators[by].step()
        self._date_bells(FAR_AHEAD)

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

    def prove(self, worker: Worker, *, passed: bool) -> None:
        worker.probes = False
        fleet = self.records.fleet
        strikes = 0 if passed else fleet.strikes(worker.card) + 1
        health = "good" if passed else "quarantined" if strikes >= 3 else "suspect"
        fleet.set_health(worker.card, health, strikes=strikes, again_s=0 if passed else 60)
        self._leave_if_done(worker)

    # --- a worker's attempt, a step at a time

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
        ask = {k: v for k, v in hand.claim.ask.items() if k != "again"}
        key = f"{hand.claim.kind}-{digest([ask, hand.claim.inputs.get('export', {}).get('key')], 12)}"
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

    def report(self, hand: Hand) -> None:
        """A later worker reports what a killed one left on its disk."""
        self.orphans.remove(hand)
        outcome = {"key": hand.artifact, "bytes": BYTES.get(hand.claim.kind, 0), "token": hand.claim.token}
        self._done(hand, outcome)

    def too_late(self, hand: Hand) -> None:
        """Whoever still speaks for an attempt that is over changes nothing."""
        claims, claim, before = self.records.claims, hand.claim, self.now().all
        verdict = after_failure("host", claim.failures, claim.cards_failed)
        assert claims.done(claim.stage, claim.token, {"key": "late"}) in ("late", "again")
        assert claims.ended(claim.stage, claim.token, verdict, error="late") in ("late", "again")
        assert claims.hand_back(claim.stage, claim.token, {}, "late") in ("late", "again")
        assert claims.renew(claim.stage, claim.token, hand.worker) in ("lost", "cancelled")
        assert not claims.running(claim.stage, claim.token)
        assert claims.build(claim, "late") == "lost"
        if "export" in claim.inputs:
            assert claims.repair(claim, "export", claim.inputs["export"]["key"], "late") == "late"
        assert self.now().all == before

    # --- the store

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

    # --- users and time

    def submit(self, jobs: list[Job], priority: int) -> None:
        self.campaigns.append(scene.submit(self.records, *jobs, priority=priority))

    def retry(self, job: str) -> None:
        before = self.now()
        if self.records.retry([job], failed_only=False):
            assert before.jobs[job]["state"] in ("done", "failed", "cancelled")
            self.history.retried(job, before)

    def advance(
        self, seconds: float, silent: Iterable[str] = (), *, stale: bool = False, by: int = 0
    ) -> None:
        """The farm clock goes on; the workers that are not silent beat and renew; a coordinator passes."""
        self.records.client.hincrby(keys.META, "clock", int(seconds * 1000))
        for worker in list(self.workers.values()):
            if worker.name not in silent:
                self.beat(worker, stale=stale)
        self._pass(by)

    def lose_bells(self) -> None:
        """The bells under way are gone, so long ago that they are rung again."""
        self.bells.under_way.clear()
        self._date_bells(LONG_AGO)

    # --- the end

    def calm(self, most: int = 400) -> None:
        """No more faults: proved cards, enough workers. Every job must come to its end, and every stage."""
        self.start(scene.CPU, node="calm")
        for queue in ("device.0", "device.1"):
            self.start((queue,))
            self.records.resume(queue)
            self.records.fleet.set_health(queue, "good")
        for n in range(most):
            self.advance(2 if n < 40 else 20)
            self.lose_bells()
            self.ring()
            self.deliver()
            for worker in list(self.workers.values()):
                if worker.probes:
                    self.prove(worker, passed=True)
                for _ in range(3):
                    if worker.hand is not None:
                        self.work(worker)
            if not self.records.client.exists("farm:leases", "farm:later") and self._all_final():
                break
        self.check()
        assert self._all_final(), f"stuck: {self._stuck()}"

    def _all_final(self) -> bool:
        return not self._stuck()

    def _stuck(self) -> list[str]:
        stages = self.now().stages.items()
        return [f"{name} {s['state']}" for name, s in stages if s["state"] not in FINAL]
