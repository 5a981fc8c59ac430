"""What is around the records: workers that come and go, bells under way, coordinators, users, and time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from farm.bells import Bells
from farm.coordinator import Coordinator
from farm.domain.job import Job
from farm.domain.plan import plan
from farm.domain.states import FINAL, after_failure
from farm.records import Records, keys
from farm.records.connection import Client
from tests.records import scene
from tests.records.attempts import BYTES, Attempts, Hand, Worker, artifact_of
from tests.records.promises import History, check

#: Past and future enough for anything that is judged by Redis's own time.
LONG_AGO, FAR_AHEAD = 0, 10**15


class Rung(Bells):
    """Bells that go into a list: a test delivers them, loses them or doubles them."""

    def __init__(self) -> None:
        self.under_way: list[str] = []

    def ring(self, queues: Sequence[str]) -> Sequence[str]:
        self.under_way += queues
        return ()


def begin_anew(client: Client) -> Records:
    """Empty records."""
    client.flushdb()
    return Records(client)


@dataclass
class World(Attempts):
    """One farm's surroundings."""

    history: History = field(default_factory=History)
    bells: Rung = field(default_factory=Rung)
    campaigns: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.coordinators = [Coordinator(self.records, self.bells, name) for name in ("one", "two")]
        self._pass(0)

    def check(self) -> None:
        now = self.now()
        check(now)
        self.history.check(now)
        for queue, held in self.locks.items():
            assert len(held) < 2 or (self.share and sum(held.values()) <= int(now.cards[queue]["nsp_total"]))

    def jobs(self, *states: str) -> list[str]:
        """The jobs in these states, in the order of their submission."""
        found = (job for campaign in self.campaigns for job in self.records.jobs(campaign))
        return [job["job"] for job in found if job["state"] in states]

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

    def prove(self, worker: Worker, *, passed: bool) -> None:
        worker.probes = False
        fleet = self.records.fleet
        strikes = 0 if passed else fleet.strikes(worker.card) + 1
        health = "good" if passed else "quarantined" if strikes >= 3 else "suspect"
        fleet.set_health(worker.card, health, strikes=strikes, again_s=0 if passed else 60)
        self._leave_if_done(worker)

    def report(self, hand: Hand) -> None:
        """A later worker reports what a killed one left on its disk."""
        self.orphans.remove(hand)
        outcome = {"key": hand.artifact, "bytes": BYTES.get(hand.claim.kind, 0), "token": hand.claim.token}
        self._done(hand, outcome)

    def too_late(self, hand: Hand) -> None:
        """Whoever still speaks for an attempt that is over changes nothing."""
        claims, claim, before = self.records.claims, hand.claim, self.now().but_notes()
        verdict = after_failure("host", claim.failures, claim.cards_failed)
        assert claims.done(claim.stage, claim.token, {"key": "late"}) in ("late", "again")
        assert claims.ended(claim.stage, claim.token, verdict, error="late") in ("late", "again")
        assert claims.hand_back(claim.stage, claim.token, {}, "late") in ("late", "again")
        assert claims.renew(claim.stage, claim.token, hand.worker) in ("lost", "cancelled")
        assert not claims.running(claim.stage, claim.token)
        assert claims.build(claim, "late") == "lost"
        if "export" in claim.inputs:
            assert claims.repair(claim, "export", claim.inputs["export"]["key"], "late") == "late"
        assert self.now().but_notes() == before

    def submit(self, jobs: list[Job], priority: int) -> None:
        self.campaigns.append(scene.submit(self.records, *jobs, priority=priority))

    def submit_run_only(self, job: str) -> None:
        """Ask for a job again over the artifacts in the store, where it lacks none of them."""
        before = self.now()
        asked = Job.from_json(json.loads(before.jobs[job]["spec"]))
        planned = plan([replace(asked, run_only=True)])
        found: dict[str, dict[str, Any]] = {}
        for stage in planned.stages:
            if stage.ask.get("must_exist"):
                key = artifact_of(stage.kind, stage.ask, *(found[need]["key"] for need in stage.needs))
                if key not in self.store:
                    return
                found[stage.name] = {"key": key, "bytes": BYTES[stage.kind]}
        self.campaigns.append(scene.submit_plan(self.records, planned.with_found(found)))
        now = self.now()
        begins = {(s["kind"], s["state"]) for name, s in now.stages.items() if name not in before.stages}
        assert begins == {
            ("export", "done"), ("compile", "done"), ("reference", "ready"), ("run", "ready"),
            ("compare", "waiting"),
        }  # fmt: skip
        assert all(now.needed(outcome["key"]) for outcome in found.values())

    def cancel(self, job: str) -> None:
        """No attempt at what was cancelled may come back, though its worker is yet to hear of it."""
        self.records.cancel([job])
        now = self.now()
        for hand in [w.hand for w in self.workers.values() if w.hand] + self.orphans:
            hand.cancelled |= now.state(hand.claim.stage) == "cancelled"

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
            if not (stuck := self._unfinished()):
                break
        self.check()
        assert not stuck
        recount = Records(self.records.client).recount
        assert [text for _ in range(2 * len(self.campaigns) + 2) for text in recount.step()] == []

    def _unfinished(self) -> list[str]:
        stages = self.now().stages.items()
        return [f"{name} {s['state']}" for name, s in stages if s["state"] not in FINAL]
