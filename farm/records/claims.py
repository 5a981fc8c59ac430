"""The worker's side of the records: claim a stage, keep it, build its artifact, settle it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from farm.domain.job import Job, StageKind
from farm.domain.states import Verdict
from farm.records import keys
from farm.records.scripts import Scripts

#: Waiting that raises a stage's priority by a step.
AGEING_MS = 30 * 60 * 1000


@dataclass(frozen=True)
class Claim:
    """A stage in this worker's hands. The token is the fence: whoever holds a later one owns the stage.

    inputs are the outcomes of the stages it needs, by kind; failures counts earlier failures by kind.
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
            ask=json.loads(record["ask"]),
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

    def build(self, claim: Claim, artifact: str) -> Literal["present", "build", "wait", "lost"]:
        """What is to be done about the stage's artifact; `wait` parks the stage and ends the attempt."""
        answer: Literal["present", "build", "wait", "lost"] = self._scripts.run(
            "build", claim.stage, claim.token, artifact
        )
        return answer

    def absent(self, artifact: str) -> None:
        """The store lacks what the entry promises: the next to ask builds it."""
        self._scripts.run("absent", artifact)

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
        """The stage is done. Answers ok, again or late."""
        text = json.dumps(outcome, separators=(",", ":"))
        return str(
            self._scripts.run("settle", stage, token, "done", text, "", "", "", "{}", 0, "", "done", 0)
        )

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
    ) -> str:
        """The attempt ended without success; the verdict says what follows. Answers ok, again or late.

        card: the queue of the card it failed on. lapsed: only if its lease has lapsed.
        """
        return str(
            self._scripts.run(
                "settle", stage, token, verdict.state, "", verdict.kind, error, log or "",
                json.dumps(dict(verdict.failures)), int(verdict.delay_s * 1000),
                card if verdict.avoid_card else "", note, int(lapsed),
            )
        )  # fmt: skip

    def hand_back(self, stage: str, token: str, failures: Mapping[str, int], note: str) -> str:
        """The attempt stops without blame (a stopping worker, a busy card): ready again at once."""
        return str(
            self._scripts.run(
                "settle", stage, token, "ready", "", "", "", "", json.dumps(dict(failures)), 0, "", note, 0
            )
        )

    def lapsed(self, stage: str) -> tuple[str, dict[str, int], list[str]]:
        """Token, failures by kind and failed cards of a stage whose lease has lapsed."""
        token, failures, avoid = self._redis.hmget(keys.stage(stage), "token", "failures", "avoid")
        return token or "", json.loads(failures or "{}"), json.loads(avoid or "[]")
