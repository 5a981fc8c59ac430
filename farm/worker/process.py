"""A worker process: answers bells, one stage at a time, each attempt under the process's keeper."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import threading
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from farm.artifacts import Store
from farm.bells import Bells
from farm.domain.errors import BadInput, FarmError, InputLost, StageFailed
from farm.domain.job import Job
from farm.domain.queues import kind_of
from farm.domain.states import after_failure
from farm.records import Records, open_records
from farm.records.claims import Claim, Probe
from farm.records.connection import patiently
from farm.sdk.child import ChildSpec
from farm.stages.exporter import Exporter
from farm.stages.workdir import publish_view
from farm.worker.building import Parked, SharedBuilder
from farm.worker.card import Card
from farm.worker.client import Guard, KeeperGone, Revoked
from farm.worker.eviction import Eviction, default_store_limit
from farm.worker.fallen import hand_back_fallen
from farm.worker.orphans import end_orphans, keeper_mark
from farm.worker.outbox import Finished, Outbox
from farm.worker.perform import Performer
from farm.worker.places import full_disk
from farm.worker.settings import WorkerSettings

log = logging.getLogger(__name__)

#: Start to finish, by stage kind; a run is bounded by its own seconds (farm.stages.run).
LIMIT_S = {"export": 3600.0, "reference": 3600.0, "compile": 7200.0, "run": None, "compare": 1800.0}


class WorkerProcess:
    """The farm's side of one Celery pool process. `start` returns at once, `answer` waits until ready."""

    def __init__(self, queues: Sequence[str], bells: Bells, stop_fd: int | None, celery_pid: int) -> None:
        """celery_pid: Celery's main process, which may be this one."""
        self.celery_pid = celery_pid
        self.queues = list(queues)
        self.bells = bells
        self.stop_fd = stop_fd
        self.settings = WorkerSettings.from_environment()
        self.name = f"{self.settings.node}:{os.getpid()}:{secrets.token_hex(3)}"
        self.card: Card | None = None
        self._ready = threading.Event()

    def start(self) -> None:
        """Become ready beside Celery's own start-up, which must not wait for Redis or a slow card."""
        threading.Thread(target=self._get_ready, name="farm-start", daemon=True).start()

    def _get_ready(self) -> None:
        try:
            settings, places = self.settings, self.settings.places
            places.process_logs.mkdir(parents=True, exist_ok=True)
            self.outbox = Outbox(places.outbox)
            self.records: Records = patiently(
                lambda: open_records(settings.redis_url, home=places.home, lease_s=settings.lease_s)
            )
            self.guard = Guard(
                settings.redis_url,
                places.home,
                places.outbox,
                places.process_logs / "keepers.log",
                self.stop_fd,
            )
            threading.Thread(target=self._watch_keeper, name="farm-keeper-watch", daemon=True).start()
            for pid in end_orphans(places.home):
                log.warning("ended %d, left by a dead keeper", pid, extra={"action": "orphan"})
            self._report_leftovers()
            patiently(lambda: hand_back_fallen(self.records, settings.node, places.home))
            self.store = Store(places.store)
            cpu = kind_of(self.queues[0]) != "run"
            limit = (settings.store_bytes or default_store_limit(self.store)) if cpu else None
            self.eviction = Eviction(self.store, self.records.artifacts, limit)
            logs = {kind: places.log_pattern(kind) for kind in map(kind_of, self.queues)}
            patiently(lambda: self.records.fleet.keeps_logs(settings.node, logs))
            if cpu:
                for left in self.store.sweep():
                    log.warning("removed %s, left by a builder that died", left, extra={"action": "sweep"})
            exporter = Exporter(self._start_exporter, fate=self.guard.exporter_fate)
            self.performer = Performer(self.store, self.guard, exporter, settings.sdk_root)
            if kind_of(self.queues[0]) == "run":
                self.card = Card(self.queues[0], settings, self.records, self.performer)
                self.guard.card_known = self.card.known_busy
                self.card.bind()
            self.guard.register(
                {
                    "worker": self.name,
                    "queues": self.queues,
                    "node": settings.node,
                    "pid": os.getpid(),
                    "celery": self.celery_pid,
                    "card": self.queues[0] if self.card else "",
                    "facts": self.card.facts if self.card else {},
                    "memory": settings.memory_bytes if cpu else None,
                    "store": limit,
                    "keeper": keeper_mark(places.home, self.guard.pid),
                }
            )
            log.info("worker %s ready for %s", self.name, ", ".join(self.queues), extra={"action": "ready"})
        except BadInput as error:
            log.error("worker cannot start: %s", error, extra={"action": "start"})
            self._give_up()
        except Exception:
            log.exception("worker cannot start", extra={"action": "start"})
            self._give_up()
        else:
            self._ready.set()

    def _give_up(self) -> None:
        """End the worker as its supervisor would; whoever supervises it starts another."""
        os.kill(self.celery_pid, signal.SIGTERM)

    def _watch_keeper(self) -> None:
        status = self.guard.wait()
        self._end_too(f"ended ({status})")

    def _end_too(self, why: str) -> None:
        """Without its keeper this process guards nothing and is soon forgotten: it ends, another starts."""
        log.error("keeper %d %s: so does this process", self.guard.pid, why)
        os._exit(1)

    def _start_exporter(self, spec: ChildSpec, fd: int) -> None:
        """The keeper starts the exporter and ends it with this process or with a revoked export."""
        self.guard.start_exporter(spec, (fd,))

    def _report_leftovers(self) -> None:
        for left in self.outbox.leftovers(self.records.farm_id):
            answer = patiently(partial(self.records.claims.done, left.stage, left.token, left.outcome))
            log.info("reported %s, left by an earlier worker: %s", left.stage, answer)
            self.outbox.remove(left.token)

    def answer(self, queue: str) -> None:
        """Answer one bell of `queue`: claim a stage and do it, or prove the card, or find nothing."""
        self._ready.wait()
        try:
            self._answer(queue)
        except KeeperGone:
            # Not back to Celery: it has the next bell, and what is claimed for that would have no guard.
            self._end_too("is gone")

    def _answer(self, queue: str) -> None:
        nonce = secrets.token_hex(8)
        kind = kind_of(queue)
        found = patiently(lambda: self.records.claims.claim(self.name, queue, kind, nonce))
        if found is None:
            return
        if isinstance(found, Probe):
            if self.card is not None:
                self.card.probe()
        else:
            self._ring()
            self._attempt(found)
        self._ring()

    def _ring(self) -> None:
        undelivered = self.bells.ring(patiently(self.records.fleet.ring))
        patiently(lambda: self.records.fleet.unring(undelivered))

    def _attempt(self, claim: Claim) -> None:
        stage_log = self.settings.places.log(claim.stage, claim.attempt)
        try:
            with self.guard.attempt(
                claim,
                LIMIT_S[claim.kind],
                before_run=lambda: patiently(lambda: self.records.claims.running(claim.stage, claim.token)),
            ):
                try:
                    self._do(claim, stage_log)
                except InputLost as lost:
                    self._repair(claim, lost, stage_log)
                except (StageFailed, BadInput) as error:
                    # A child that was ended from outside fails too: then it is no failure of the stage.
                    self.guard.check()
                    failure = error if isinstance(error, StageFailed) else StageFailed("input", str(error))
                    self._failed(claim, failure, stage_log)
        except Parked as parked:
            log.info("%s waits for %s", claim.stage, parked, extra={"action": "parked"})
        except Revoked as revoked:
            log.info(
                "%s attempt %d: %s", claim.stage, claim.attempt, revoked.why, extra={"action": "revoked"}
            )
            if revoked.why == "stopping":
                patiently(
                    lambda: self.records.claims.hand_back(
                        claim.stage, claim.token, claim.failures, "worker stopped"
                    )
                )
            elif revoked.why == "limit":
                limit = LIMIT_S[claim.kind] or 0
                self._failed(
                    claim,
                    StageFailed("input", f"{claim.kind} took longer than its limit of {limit:.0f} s"),
                    stage_log,
                )

    def _repair(self, claim: Claim, lost: InputLost, stage_log: Path) -> None:
        """Have an input made again that is gone from the store; the stage waits for it, uncounted."""
        answer = patiently(lambda: self.records.claims.repair(claim, lost.producer, lost.key, str(lost)))
        if answer == "late":
            raise Revoked("lost")
        if answer == "spent":
            self._failed(claim, StageFailed("host", f"{lost}, again and again"), stage_log)
            return
        log.warning("%s: %s; it is made again", claim.stage, lost, extra={"action": "repair"})

    def _do(self, claim: Claim, stage_log: Path) -> None:
        try:
            stage_log.parent.mkdir(parents=True, exist_ok=True)
            outcome = self._perform(claim, stage_log)
        except (StageFailed, BadInput, Revoked, Parked, KeeperGone):
            raise
        except Exception as error:
            with contextlib.suppress(OSError), stage_log.open("a") as stream:
                traceback.print_exc(file=stream)
            raise StageFailed("host", f"{type(error).__name__}: {error}", str(stage_log)) from error
        outcome.setdefault("log", str(stage_log))
        try:
            self.outbox.write(Finished(claim.stage, claim.token, outcome, self.records.farm_id))
        except OSError as error:
            # What is done is not done again for want of a copy: the records are told all the same.
            log.warning("%s: no copy of its outcome: %s", claim.stage, error, extra={"action": "outbox"})
        answer = patiently(lambda: self.records.claims.done(claim.stage, claim.token, outcome))
        self.outbox.remove(claim.token)
        log.info("%s attempt %d: done (%s)", claim.stage, claim.attempt, answer, extra={"action": "done"})
        if answer in ("ok", "again") and claim.job is not None and claim.kind == "run":
            self._show(claim.job, Path(outcome["workdir"]))

    def _show(self, job: Job, workdir: Path) -> None:
        """Let the model's working directory be the run's; where it cannot, the result stands."""
        try:
            publish_view(workdir, self.settings.places.models, job.model, job.task)
        except FarmError as error:
            log.warning("no view of %s: %s", workdir, error, extra={"action": "view"})

    def _perform(self, claim: Claim, stage_log: Path) -> dict[str, Any]:
        performer, ask, inputs = self.performer, claim.ask, claim.inputs
        builder = SharedBuilder(self.store, self.records.claims, claim, self.eviction)
        if claim.kind == "export":
            return performer.export(ask, builder, stage_log)
        if claim.kind == "reference":
            return performer.reference(ask, inputs["export"], builder, stage_log)
        if claim.kind == "compile":
            settings = self.settings
            return performer.compile(
                ask, inputs["export"], builder, stage_log,
                limit_s=settings.compile_limit_s, memory_bytes=settings.compile_bytes,
            )  # fmt: skip
        if claim.kind == "compare" and claim.job is not None:
            return performer.compare(ask, claim.job, inputs["export"], inputs["reference"], inputs["run"])
        if claim.kind == "run" and self.card is not None:
            return self.card.run(claim)
        raise StageFailed("host", f"a worker of {', '.join(self.queues)} cannot do {claim.stage}")

    def _failed(self, claim: Claim, error: StageFailed, stage_log: Path) -> None:
        """Settle a failed attempt; on a card, prove first whether the card or the job is to blame."""
        places = self.settings.places
        if full := full_disk(places.home, places.work if self.card else self.store.root):
            # Whatever the tools said of it, if they could say anything.
            why = f"{full} is full: free some space"
            error = StageFailed("host", f"{error} ({why})", error.log)
            if self.card is not None:
                # Else it would fail one job after the other, faster than any card that works.
                self.card.quarantine(why)
        cleared: list[str] = []
        elsewhere = True
        if error.kind == "card" and self.card is not None:
            cleared = [c for c in claim.cards_failed if self.card.is_good(c)]
            if self.card.probe(strike=str(error)):
                cleared.append(self.card.queue)
            elsewhere = claim.job is not None and bool(self.card.others(claim.job) - set(claim.cards_failed))
        verdict = after_failure(error.kind, claim.failures, claim.cards_failed, cleared, elsewhere)
        answer = patiently(
            lambda: self.records.claims.ended(
                claim.stage,
                claim.token,
                verdict,
                error=str(error),
                log=error.log or str(stage_log),
                card=self.card.queue if self.card else "",
                alone=error.out_of_memory,
            )
        )
        log.warning(
            "%s attempt %d failed (%s): %s -> %s (%s)", claim.stage, claim.attempt, error.kind, error,
            verdict.state, answer, extra={"action": "failed"},
        )  # fmt: skip
