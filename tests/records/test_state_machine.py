"""The records under anything that workers, keepers, coordinators and users may do, in any order.

Hypothesis draws the order; after each step everything in `promises.py` must hold, and in the end, when calm
workers have done what is left, every stage is at its end. SOAK=<examples> looks longer.
"""

from __future__ import annotations

import itertools
import os
import sys

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from farm.domain.errors import FailureKind
from farm.domain.job import Job
from farm.records import Records, submissions
from tests.records import scene
from tests.records.world import Hand, Worker, World

GIB = 1024**3
PICK = st.integers(0, 11)
JOBS = st.builds(
    scene.job,
    st.sampled_from(["a", "b"]),
    cores=st.sampled_from([2, 4, 16]),
    instances=st.just(1),
    seconds=st.sampled_from([5, 20]),
    devices=st.sampled_from([None, None, ("1",)]),
    repeat=st.integers(0, 1),
)
KINDS: list[FailureKind] = ["input", "busy", "host", "card"]


class Machine(RuleBasedStateMachine):
    """Rules draw numbers; a number picks among what is there."""

    records: Records

    @initialize(
        share=st.booleans(),
        jobs=st.lists(JOBS, min_size=1, max_size=3, unique_by=repr),
        cards=st.lists(st.integers(0, 1), max_size=3),
        rounds=st.integers(0, 6),
    )
    def begin(self, share: bool, jobs: list[Job], cards: list[int], rounds: int) -> None:
        """A farm in which something is under way."""
        self.world = World(self.records, share)
        self.records = self.world.records
        self.world.submit(jobs, 0)
        for node in ("one", "two"):
            self.world.start(scene.CPU, node=node)
        for qid in cards:
            self.start_card_worker(qid, good=True)
        for _ in range(rounds):
            self.a_round(steps=3)

    def free(self) -> list[Worker]:
        return [w for w in self.world.workers.values() if w.free]

    def at_work(self) -> list[Worker]:
        return [w for w in self.world.workers.values() if w.hand is not None]

    def hand(self, n: int) -> Hand:
        return self.world.over[n % len(self.world.over)]

    @rule(jobs=st.lists(JOBS, min_size=1, max_size=3, unique_by=repr), priority=st.integers(0, 9))
    def submit(self, jobs: list[Job], priority: int) -> None:
        if len(self.world.jobs()) < 8:
            self.world.submit(jobs, priority)

    @rule(
        node=st.sampled_from(["one", "two"]),
        memory=st.sampled_from([None, 2 * GIB, 5 * GIB]),
        store=st.sampled_from([None, GIB, 3 * GIB]),
    )
    def start_cpu_worker(self, node: str, memory: int | None, store: int | None) -> None:
        if len(self.world.workers) < 8:
            self.world.start(scene.CPU, node=node, memory=memory, store=store)

    @rule(qid=st.integers(0, 1), good=st.booleans())
    def start_card_worker(self, qid: int, good: bool) -> None:
        if len(self.world.workers) < 8:
            worker = self.world.start((f"device.{qid}",))
            if good:
                self.records.fleet.set_health(worker.card, "good")

    @precondition(lambda self: self.free())
    @rule(n=PICK, q=PICK)
    def answer_a_bell_that_may_be_a_double(self, n: int, q: int) -> None:
        worker = self.free()[n % len(self.free())]
        self.world.answer(worker, worker.queues[q % len(worker.queues)])

    @rule(steps=st.integers(1, 4))
    def a_round(self, steps: int) -> None:
        """Bells are rung and answered, and whoever is at work goes on."""
        self.world.ring()
        self.world.deliver()
        for worker in self.at_work():
            for _ in range(steps):
                if worker.hand is not None:
                    self.world.work(worker)

    @rule()
    def lose_the_bells(self) -> None:
        self.world.lose_bells()

    @precondition(lambda self: self.at_work())
    @rule(n=PICK, steps=st.integers(1, 3))
    def work(self, n: int, steps: int) -> None:
        worker = self.at_work()[n % len(self.at_work())]
        for _ in range(steps):
            if worker.hand is not None:
                self.world.work(worker)

    @precondition(lambda self: self.at_work())
    @rule(n=PICK, kind=st.sampled_from(KINDS), alone=st.booleans())
    def fail(self, n: int, kind: FailureKind, alone: bool) -> None:
        worker = self.at_work()[n % len(self.at_work())]
        if kind in ("input", "host") or worker.card:
            self.world.fail(worker, kind, alone=alone)

    @precondition(lambda self: self.at_work())
    @rule(n=PICK)
    def hand_back(self, n: int) -> None:
        self.world.hand_back(self.at_work()[n % len(self.at_work())])

    @precondition(lambda self: self.world.workers)
    @rule(n=PICK, keeper=st.booleans(), wrote=st.booleans())
    def kill(self, n: int, keeper: bool, wrote: bool) -> None:
        workers = list(self.world.workers.values())
        self.world.kill(workers[n % len(workers)], keeper=keeper, wrote=wrote)

    @precondition(lambda self: self.world.workers)
    @rule(n=PICK)
    def stop(self, n: int) -> None:
        workers = list(self.world.workers.values())
        self.world.stop(workers[n % len(workers)])

    @precondition(lambda self: self.world.orphans)
    @rule(n=PICK)
    def report_what_was_left(self, n: int) -> None:
        self.world.report(self.world.orphans[n % len(self.world.orphans)])

    @precondition(lambda self: self.world.over)
    @rule(n=PICK)
    def speak_too_late(self, n: int) -> None:
        self.world.too_late(self.hand(-1 - n))

    @rule(
        seconds=st.sampled_from([1, 3, 11, 16, 40, 130]),
        silent=st.sets(PICK),
        stale=st.booleans(),
        by=st.integers(0, 1),
    )
    def advance(self, seconds: int, silent: set[int], stale: bool, by: int) -> None:
        names = [name for n, name in enumerate(self.world.workers) if n in silent]
        self.world.advance(seconds, names, stale=stale, by=by)

    @precondition(lambda self: any(w.probes for w in self.world.workers.values()))
    @rule(passed=st.booleans())
    def prove(self, passed: bool) -> None:
        for worker in [w for w in self.world.workers.values() if w.probes]:
            self.world.prove(worker, passed=passed)

    @precondition(lambda self: self.world.locks)
    @rule(n=PICK, what=st.sampled_from(["drain", "resume", "suspect", "quarantine"]))
    def change_a_card(self, n: int, what: str) -> None:
        card = sorted(self.world.locks)[n % len(self.world.locks)]
        if what in ("drain", "resume"):
            self.records.fleet.drain(card, what == "drain")
        elif what == "suspect":
            self.records.fleet.set_health(card, "suspect", strikes=1)
        else:
            self.records.fleet.set_health(card, "quarantined", strikes=3, again_s=60)

    @precondition(lambda self: self.world.store)
    @rule(n=PICK)
    def lose_an_artifact(self, n: int) -> None:
        self.world.store.discard(sorted(self.world.store)[n % len(self.world.store)])

    @rule(limit=st.sampled_from([None, 0, GIB]))
    def condemn(self, limit: int | None) -> None:
        self.world.condemn_over(limit)

    @precondition(lambda self: self.world.condemned)
    @rule()
    def bury(self) -> None:
        self.world.bury(self.world.condemned)

    @rule(n=PICK)
    def cancel(self, n: int) -> None:
        if jobs := self.world.jobs():
            self.records.cancel([jobs[n % len(jobs)]])

    @rule(n=PICK)
    def retry(self, n: int) -> None:
        if jobs := self.world.jobs():
            self.world.retry(jobs[n % len(jobs)])

    @invariant()
    def promises_hold(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        if hasattr(self, "world") and sys.exc_info()[0] is None:
            self.world.calm()


def test_no_order_of_events_breaks_a_promise(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    # Names in their order, so that the same draws give the same course.
    names = (f"20260101-0000-{n:04x}" for n in itertools.count())
    monkeypatch.setattr(submissions, "new_campaign_id", lambda: next(names))
    soak = int(os.environ.get("SOAK", "0"))

    class Here(Machine):
        pass

    Here.records = records
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=soak or 25,
            stateful_step_count=60 if soak else 40,
            deadline=None,
            derandomize=not soak,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink) if os.environ.get("SHRINK") else (Phase.generate,),
            report_multiple_bugs=False,
        ),
    )
