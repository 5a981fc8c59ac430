"""The records under anything that workers, keepers, coordinators and users may do, in any order.

Hypothesis draws the order; after each step everything in `promises.py` must hold, and in the end, when calm
workers have done what is left, every stage is at its end. SOAK=<examples> looks longer, at other orders each
time; SHRINK=1 makes a failure short, in minutes.
"""

from __future__ import annotations

import itertools
import os
import sys
from typing import cast

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
from farm.records.connection import Client
from farm.records.queries import JOB_STATES
from tests.records import scene
from tests.records.attempts import Worker
from tests.records.world import World, begin_anew

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
SUBMISSIONS = st.lists(JOBS, min_size=1, max_size=3, unique_by=repr)
#: How an attempt ends without success.
ENDS = [
    "input", "busy", "host", "card", "handed back", "stopped", "killed", "killed, its keeper too",
    "killed when it wrote",
]  # fmt: skip
CHANGES = ["prove", "accuse", "drain", "resume", "suspect", "quarantine"]


class Machine(RuleBasedStateMachine):
    """Rules draw numbers; a number picks among what is there."""

    client: Client

    @initialize(
        share=st.booleans(),
        jobs=SUBMISSIONS,
        cards=st.lists(st.integers(0, 1), min_size=1, max_size=3),
        rounds=st.integers(0, 5),
    )
    def begin(self, share: bool, jobs: list[Job], cards: list[int], rounds: int) -> None:
        """A farm in which something is under way: two campaigns want the same."""
        self.world = World(begin_anew(self.client), share)
        for place in ("one", "two", *(f"device.{qid}" for qid in cards)):
            self.start_a_worker(place, None, None, good=True)
        for _ in range(2):
            self.world.submit(jobs, 0)
        for _ in range(rounds):
            self.a_round(steps=2)

    def at_work(self, n: int) -> Worker | None:
        """One of those that have something to do, where there is anything to do."""
        for _ in range(2):
            if busy := [w for w in self.world.workers.values() if w.hand is not None]:
                return busy[n % len(busy)]
            self.a_round(steps=0)
        return None

    @rule(jobs=SUBMISSIONS, priority=st.integers(0, 9))
    def submit(self, jobs: list[Job], priority: int) -> None:
        if len(self.world.jobs("waiting", "running")) < 6:
            self.world.submit(jobs, priority)

    @rule(n=PICK)
    def submit_again_run_only(self, n: int) -> None:
        """A job asked for again over what is in the store."""
        if jobs := self.world.jobs(*JOB_STATES):
            self.world.submit_run_only(jobs[n % len(jobs)])

    @rule(
        place=st.sampled_from(["one", "two", "device.0", "device.1"]),
        memory=st.sampled_from([None, 2 * GIB, 5 * GIB]),
        store=st.sampled_from([None, GIB, 3 * GIB]),
        good=st.booleans(),
    )
    def start_a_worker(self, place: str, memory: int | None, store: int | None, good: bool) -> None:
        """Of a node, with its budgets, or of a card."""
        if len(self.world.workers) >= 8:
            return
        if not place.startswith("device"):
            self.world.start(scene.CPU, node=place, memory=memory, store=store)
            return
        self.world.start((place,))
        if good:
            self.world.records.fleet.set_health(place, "good")

    @rule(steps=st.integers(0, 2))
    def a_round(self, steps: int) -> None:
        """Bells are rung and answered, and whoever is at work goes on."""
        self.world.ring()
        self.world.deliver()
        for worker in list(self.world.workers.values()):
            for _ in range(steps):
                if worker.hand is not None:
                    self.world.work(worker)

    @rule(n=PICK, q=PICK)
    def answer_a_bell_that_may_be_a_double(self, n: int, q: int) -> None:
        if free := [w for w in self.world.workers.values() if w.free]:
            worker = free[n % len(free)]
            self.world.answer(worker, worker.queues[q % len(worker.queues)])

    @rule(n=PICK)
    def work(self, n: int) -> None:
        if worker := self.at_work(n):
            self.world.work(worker)

    @rule(n=PICK, how=st.sampled_from(ENDS), alone=st.booleans())
    def end(self, n: int, how: FailureKind | str, alone: bool) -> None:
        """An attempt ends without success, or its worker does."""
        worker = self.at_work(n)
        if worker is None:
            return
        if how == "handed back":
            self.world.hand_back(worker)
        elif how == "stopped":
            self.world.stop(worker)
        elif how.startswith("killed"):
            self.world.kill(worker, keeper=how != "killed", wrote=how.endswith("wrote"))
        elif worker.card or how not in ("card", "busy"):
            self.world.fail(worker, cast(FailureKind, how), alone=alone)

    @rule(
        n=PICK,
        begun=st.booleans(),
        seconds=st.sampled_from([11, 16]),
        then=st.sampled_from(["back", "on", "others"]),
    )
    def fall_silent(self, n: int, begun: bool, seconds: int, then: str) -> None:
        """A worker and its keeper stop for a while: forgotten, or the lease lapses. Then they go on."""
        worker = self.at_work(n)
        if worker is None:
            return
        if begun:
            self.world.work(worker)
        self.world.advance(seconds, [worker.name])
        if then == "others":
            self.a_round(steps=0)
        if then == "on" and worker.hand is not None:
            self.world.work(worker)
        else:
            self.world.beat(worker, stale=True)

    @rule(
        seconds=st.sampled_from([1, 3, 11, 40, 130]),
        silent=st.sets(PICK),
        stale=st.booleans(),
        by=st.integers(0, 1),
        lost=st.booleans(),
    )
    def time_goes_by(self, seconds: int, silent: set[int], stale: bool, by: int, lost: bool) -> None:
        names = [name for n, name in enumerate(self.world.workers) if n in silent]
        self.world.advance(seconds, names, stale=stale, by=by)
        if lost:
            self.world.lose_bells()

    @precondition(lambda self: self.world.over)
    @rule(n=PICK)
    def speak_too_late(self, n: int) -> None:
        self.world.too_late(self.world.over[(-1 - n) % len(self.world.over)])

    @precondition(lambda self: self.world.orphans)
    @rule()
    def report_what_was_left(self) -> None:
        self.world.report(self.world.orphans[0])

    @rule(queue=st.sampled_from(["device.0", "device.1"]), what=st.sampled_from(CHANGES))
    def change_a_card(self, queue: str, what: str) -> None:
        if queue not in self.world.locks:
            return
        for worker in [w for w in self.world.workers.values() if w.probes and w.card == queue]:
            self.world.prove(worker, passed=what == "prove")
        if what in ("drain", "resume"):
            self.world.records.fleet.drain(queue, what == "drain")
        elif what == "suspect":
            self.world.records.fleet.set_health(queue, "suspect", strikes=1)
        elif what == "quarantine":
            self.world.records.fleet.set_health(queue, "quarantined", strikes=3, again_s=60)

    @precondition(lambda self: self.world.store)
    @rule(n=PICK)
    def lose_an_artifact(self, n: int) -> None:
        self.world.store.discard(sorted(self.world.store)[n % len(self.world.store)])

    @rule(limit=st.sampled_from([None, 0, GIB]), bury=st.booleans())
    def evict(self, limit: int | None, bury: bool) -> None:
        self.world.condemn_over(limit)
        if bury:
            self.world.bury(self.world.condemned)

    @rule(n=PICK, again=st.booleans())
    def cancel(self, n: int, again: bool) -> None:
        """A job is cancelled, and perhaps asked for again before its worker has heard of it."""
        if jobs := self.world.jobs("waiting", "running"):
            job = jobs[n % len(jobs)]
            self.world.cancel(job)
            if again:
                self.world.retry(job)

    @rule(n=PICK)
    def retry(self, n: int) -> None:
        if jobs := self.world.jobs("done", "failed", "cancelled"):
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

    monkeypatch.setattr(Machine, "client", records.client, raising=False)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=soak or 40,
            stateful_step_count=60 if soak else 30,
            deadline=None,
            derandomize=not soak,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink) if os.environ.get("SHRINK") else (Phase.generate,),
            report_multiple_bugs=False,
        ),
    )
