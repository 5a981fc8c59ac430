"""The worker's side of the records: claim a stage, keep it, build its artifact, settle it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from farm.domain.job import Job, StageKind
from farm.domain.states import Verdict, after_loss
from farm.records import keys
from farm.records.fleet import AGEING_MS
from farm.records.scripts import Scripts

#: Deaths of workers within this long, ms on the farm clock, are looked at together.
LOSSES_MS = 60_000
#: How often one finished stage may be made again because its artifact was lost.
MOST_REPAIRS = 3


BuildAnswer = Literal["present", "build", "wait", "condemned", "lost"]
RepairAnswer = Literal["wait", "ready", "spent", "late"]


@dataclass(frozen=True)
class Claim:
    """A stage in this worker's hands. The token is the fence: whoever holds a later one owns the stage.

    inputs are the outcomes of the stages it needs, by kind; failures counts earlier failures by kind. The ask
    of a repair has "again": the revision that is to be made again.
    """

    stage: str
    kind: StageKind
    token: str
    attempt: int
    campaign: str
    ask: Mapping[str, Any]
    inputs: Mapping[str, Mapping[str, Any]]
    failures: Mapping[str, int]
    cards_failed: tuple[str, ...]
    claimed_ms: int
    ready_ms: int
    job_id: str | None = None
    job: Job | None = None


class Probe:
    """The card behind the bell is unproved: run the golden program on it."""


class Claims:
    """Transitions of a stage that a worker causes. Each may be repeated: nonces and tokens see to it."""

    def __init__(self, scripts: Scripts, lease_s: float = 15.0) -> None:
        self._scripts = scripts
        self._redis = scripts.client
        self.lease_ms = int(lease_s * 1000)

    def claim(self, worker: str, queue: str, kind: StageKind, nonce: str) -> Claim | Probe | None:
        """The best stage of `kind` for this worker's queue, or a card to prove, or None."""
        answer = self._scripts.run(
            "claim", worker, queue, kind, nonce, secrets.token_hex(8), self.lease_ms, AGEING_MS
        )
        if not answer:
            return None
        if answer[0] == "probe":
            return Probe()
        return self._read(answer[1], answer[2], int(answer[3]))

    def _read(self, stage: str, token: str, attempt: int) -> Claim:
        record = self._redis.hgetall(keys.stage(stage))
        needs = json.loads(record["needs"])
        pipe = self._redis.pipeline(transaction=False)
        for need in needs:
            pipe.hmget(keys.stage(need), "kind", "outcome")
        job_id = record.get("job")
        if job_id:
            pipe.hmget(keys.job(job_id), "spec", "stages")
        answers = pipe.execute()
        job = None
        inputs = {kind: json.loads(outcome) for kind, outcome in answers[: len(needs)] if outcome}
        if job_id:
            spec, stages = answers[-1]
            job = Job.from_json(json.loads(spec))
            inputs |= self._upstream(json.loads(stages), inputs)
        elif record["kind"] in ("compile", "reference") and "export" not in inputs:
            raise ValueError(f"stage {stage} is ready but its export has no outcome")
        return Claim(
            stage=stage,
            kind=record["kind"],
            token=token,
            attempt=attempt,
            campaign=record["campaign"],
            ask=json.loads(record["ask"]) | ({"again": record["again"]} if "again" in record else {}),
            inputs=inputs,
            failures=json.loads(record.get("failures") or "{}"),
            cards_failed=tuple(json.loads(record.get("avoid") or "[]")),
            claimed_ms=int(record["claimed"]),
            ready_ms=int(record["ready"]),
            job_id=job_id,
            job=job,
        )

    def _upstream(self, stages: Mapping[str, str], known: Mapping[str, Any]) -> dict[str, Any]:
        """The outcomes of a job's other finished stages: a run wants the export behind its compile."""
        kinds = [k for k in ("export", "reference", "compile") if k not in known]
        pipe = self._redis.pipeline(transaction=False)
        for kind in kinds:
            pipe.hget(keys.stage(stages[kind]), "outcome")
        return {kind: json.loads(raw) for kind, raw in zip(kinds, pipe.execute(), strict=True) if raw}

    def build(self, claim: Claim, artifact: str) -> BuildAnswer:
        """What is to be done about the stage's artifact; `wait` parks the stage and ends the attempt.

        `condemned`: remove it first (farm.worker.eviction), then ask again.
        """
        answer: BuildAnswer = self._scripts.run("build", claim.stage, claim.token, artifact)
        return answer

    def absent(self, artifact: str) -> None:
        """The store lacks what the entry promises: the next to ask builds it."""
        self._scripts.run("absent", artifact)

    def repair(self, claim: Claim, kind: str, artifact: str, told: str) -> RepairAnswer:
        """The stage's input of `kind` is gone: its attempt ends uncounted and waits until it is made again.

        `spent`: it was made again MOST_REPAIRS times already, and nothing has changed.
        """
        again = claim.inputs[kind].get("revision") or ""
        answer: RepairAnswer = self._scripts.run(
            "repair", claim.stage, claim.token, kind, artifact, told, again, MOST_REPAIRS
        )
        return answer

    def running(self, stage: str, token: str) -> bool:
        """The card is held and the run starts; False when another attempt has the stage."""
        return bool(self._scripts.run("running", stage, token))

    def renew(self, stage: str, token: str, worker: str) -> Literal["ok", "cancelled", "lost"]:
        """Put the lapse of the lease off."""
        answer: Literal["ok", "cancelled", "lost"] = self._scripts.run(
            "renew", stage, token, worker, self.lease_ms
        )
        return answer

    def done(self, stage: str, token: str, outcome: Mapping[str, Any]) -> str:
        """The stage is done; outcome["bytes"] is what its artifact takes. Answers ok, again or late."""
        text = json.dumps(outcome, separators=(",", ":"))
        return self._settle(stage, token, "done", note="done", outcome=text, size=outcome.get("bytes", ""))

    def ended(
        self,
        stage: str,
        token: str,
        verdict: Verdict,
        *,
        error: str,
        log: str | None = None,
        card: str = "",
        note: str = "failed",
        lapsed: bool = False,
        alone: bool = False,
    ) -> str:
        """The attempt ended without success; the verdict says what follows. Answers ok, again or late.

        card: the queue of the card it failed on. lapsed: only if its lease has lapsed. alone: the next
        attempt is to have all the memory of its node.
        """
        return self._settle(
            stage,
            token,
            verdict.state,
            note=note,
            kind=verdict.kind,
            error=error,
            log=log or "",
            failures=verdict.failures,
            delay_s=verdict.delay_s,
            avoid=card if verdict.avoid_card else "",
            lapsed=lapsed,
            alone=alone,
        )

    def lost(
        self, stage: str, token: str, failures: Mapping[str, int], *, error: str, lapsed: bool = False
    ) -> str:
        """The attempt's worker, keeper or host died; what follows is farm.domain.states.after_loss's to say.

        lapsed: it is known by its lease alone. Answers ok, again or late.
        """
        clock = int(self._redis.hget(keys.META, "clock") or 0)
        lately = self._redis.zrangebyscore(keys.LOSSES, clock - LOSSES_MS, "+inf")
        verdict = after_loss(failures, among_others=bool(set(lately) - {stage}))
        note = "lease lapsed" if lapsed else "worker lost"
        answer = self.ended(stage, token, verdict, error=error, note=note, lapsed=lapsed)
        if answer == "ok":
            pipe = self._redis.pipeline(transaction=False)
            pipe.zadd(keys.LOSSES, {stage: clock})
            pipe.zremrangebyscore(keys.LOSSES, "-inf", clock - LOSSES_MS)
            pipe.execute()
            if verdict.strike:
                self._suspect_card_of(stage)
        return answer

    def _suspect_card_of(self, stage: str) -> None:
        """The card on which the stage lost its worker is out of placement until a golden run has passed.

        A hint beside the scripts, as the losses are: without it the third death fails the stage all the same.
        """
        queue = self._redis.hget(keys.stage(stage), "queue")
        if queue and self._redis.hget(keys.card(queue), "health") == "good":
            strikes = self._redis.hget(keys.card(queue), "strikes") or 0
            reason = f"{stage} lost its worker here again"
            self._scripts.run("health", queue, "suspect", reason, strikes, 0)

    def hand_back(self, stage: str, token: str, failures: Mapping[str, int], note: str) -> str:
        """The attempt stops without blame (a stopping worker, a busy card): ready again at once."""
        return self._settle(stage, token, "ready", note=note, failures=failures)

    def _settle(
        self,
        stage: str,
        token: str,
        verdict: str,
        *,
        note: str,
        outcome: str = "",
        kind: str = "",
        error: str = "",
        log: str = "",
        failures: Mapping[str, int] | None = None,
        delay_s: float = 0.0,
        avoid: str = "",
        lapsed: bool = False,
        size: int | str = "",
        alone: bool = False,
    ) -> str:
        """The arguments of lua/settle.lua, in its order."""
        counts = json.dumps(dict(failures or {}))
        return str(
            self._scripts.run(
                "settle", stage, token, verdict, outcome, kind, error, log, counts, int(delay_s * 1000),
                avoid, note, int(lapsed), size, int(alone),
            )
        )  # fmt: skip

    def fence(self, stage: str) -> tuple[str, dict[str, int]]:
        """Token and failures by kind of a stage that somebody lost."""
        token, failures = self._redis.hmget(keys.stage(stage), "token", "failures")
        return token or "", json.loads(failures or "{}")
