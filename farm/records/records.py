"""The records as the command line and the coordinator see them: one object over one Redis."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from farm.domain.errors import BadInput, FarmError
from farm.domain.plan import Plan
from farm.domain.progress import time_left
from farm.records import keys, submissions
from farm.records.artifacts import Artifacts
from farm.records.claims import Claims
from farm.records.connection import Client, address_of, connect
from farm.records.fleet import Fleet
from farm.records.identity import begin, read_seen
from farm.records.memory import Memory, Seen
from farm.records.queries import Queries
from farm.records.recount import Recount
from farm.records.scripts import Scripts
from farm.records.troubles import Troubles
from farm.records.upgrade import upgrade


class Records:
    """Everything the farm knows. `claims`, `fleet` and `artifacts` are for workers and coordinators."""

    def __init__(self, client: Client, *, lease_s: float = 15.0, memory: Memory | None = None) -> None:
        """memory: what was seen of them before. Raises RecordsLost when they are not those; BadInput for a
        schema newer than this farm's."""
        self.client = client
        self._memory = memory or Memory()
        self._scripts = Scripts(client, self._memory)
        self._open()
        self.claims = Claims(self._scripts, lease_s)
        self.fleet = Fleet(self._scripts)
        self.artifacts = Artifacts(self._scripts)
        self.recount = Recount(self._scripts)
        self.queries = Queries(client)
        self.troubles = Troubles(client, self.queries)

    def _open(self) -> None:
        """Begin the records where they are new, and bring them to today's schema."""
        if self._look() is None:
            # Only the first process of a farm writes here: a reader's account may not.
            begin(self.client, secrets.token_hex(8))
            self._look()
        schema = int(self.client.hget(keys.META, "schema"))
        if schema > keys.SCHEMA:
            raise BadInput(
                f"these records have schema {schema}, this aic-farm knows {keys.SCHEMA}: upgrade aic-farm"
            )
        if schema < keys.SCHEMA:
            upgrade(self._scripts)

    def _look(self) -> Seen | None:
        return self._memory.verify(lambda: read_seen(self.client))

    def look(self) -> None:
        """Note how far the records are, so that older ones are told from them. Raises RecordsLost."""
        self._look()

    @property
    def farm_id(self) -> str:
        """The name of the farm whose records these are."""
        seen = self._memory.seen
        return seen.farm if seen else ""

    def submit(self, plan: Plan, *, label: str | None, priority: int, command: list[str]) -> str:
        """Record the plan as a campaign; its id. Raises FarmError while nothing new is started."""
        if why := self.fleet.halted():
            raise FarmError(f"nothing is recorded now: {why}")
        return submissions.submit(self._scripts, plan, label=label, priority=priority, command=command)

    def latest(self) -> str | None:
        """The newest campaign, None where there is none."""
        return self.queries.latest()

    def campaigns(self) -> list[dict[str, Any]]:
        """One record a campaign, oldest first."""
        return self.queries.campaigns()

    def status(self, campaign: str | None = None) -> dict[str, Any]:
        """The status document. Raises BadInput for an unknown campaign."""
        status = self.queries.status(campaign)
        cards = self.fleet.cards()
        own = status["devices"]
        good = sum(1 for card in cards if card["health"] == "good" and (not own or card["device"] in own))
        unfinished = status["jobs"]["waiting"] + status["jobs"]["running"]
        left = time_left(
            unfinished, status.pop("expected_left_s"), good, status.pop("pace_s"), status.pop("cpu_left")
        )
        shown = ("device", "state", "health", "reason", "job", "left_s", "workers", "done")
        status["cards"] = [{name: card[name] for name in shown} for card in cards]
        status["waits"] = self.fleet.waits()
        status["halted"] = self.fleet.halted()
        status["eta_s"] = left
        return status

    def results(self, campaign: str | None = None) -> list[dict[str, Any]]:
        """The result records of a campaign."""
        return self.queries.results(campaign)

    def outcomes(self, campaign: str | None = None) -> list[dict[str, Any]]:
        """See `Queries.outcomes`."""
        return self.queries.outcomes(campaign)

    def jobs(self, campaign: str | None = None) -> list[dict[str, Any]]:
        """The jobs of a campaign, a short record each."""
        return self.queries.jobs(campaign)

    def job(self, job_id: str) -> dict[str, Any]:
        """One job whole, with its history."""
        return self.queries.job(job_id)

    def cards(self) -> list[dict[str, Any]]:
        """The devices document."""
        return self.fleet.cards()

    def drain(self, device: str) -> None:
        """Take a card out of placement; what runs on it ends normally."""
        self.fleet.drain(device, True)

    def resume(self, device: str) -> None:
        """Put a drained card back into placement."""
        self.fleet.drain(device, False)

    def cancel(self, names: list[str]) -> int:
        """Cancel campaigns or jobs; the number of jobs that were still open."""
        nonce = secrets.token_hex(8)
        return sum(int(self._scripts.run("cancel", job, nonce)) for job in self.queries.job_ids(names))

    def retry(self, names: list[str], *, failed_only: bool) -> int:
        """Ask again for finished jobs (failed_only: those that failed or were cancelled); how many."""
        count, nonce = 0, secrets.token_hex(8)
        for job in self.queries.job_ids(names):
            if failed_only and self.client.hget(keys.job(job), "state") not in ("failed", "cancelled"):
                continue
            count += int(self._scripts.run("retry", job, nonce))
        return count

    def coordinator_alive(self) -> bool:
        """Whether a coordinator is at work."""
        return self.fleet.coordinator_alive()

    def wait_change(self, timeout_s: float) -> None:
        """Block until something changed in the records, or the time is over."""
        with self.client.pubsub(ignore_subscribe_messages=True) as listener:
            listener.subscribe(keys.CHANGED)
            listener.get_message(timeout=0.1)
            listener.get_message(timeout=timeout_s)


def open_records(
    url: str, *, home: Path | None = None, lease_s: float = 15.0, retries: int = 3, timeout_s: float = 10.0
) -> Records:
    """The records at `url`, which must go on from what was seen of them below `home`.

    Raises Unreachable, RecordsLost (which is Unreachable); BadInput for a newer schema.
    """
    memory = Memory(address_of(url), home)
    client = connect(url, retries=retries, timeout_s=timeout_s, memory=memory)
    return Records(client, lease_s=lease_s, memory=memory)
