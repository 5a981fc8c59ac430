"""A worker's card: which one it is, how it is proved, and how a run is done on it."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from farm.domain.errors import BadInput, StageFailed, Unreachable
from farm.domain.job import Job
from farm.domain.queues import qid_of
from farm.domain.result import iso
from farm.records import Records
from farm.records.claims import Claim
from farm.records.connection import AWAY, patiently
from farm.sdk.devices import Device
from farm.sdk.lock import HeldCard
from farm.sdk.resting import resting_card
from farm.stages.host import boot_id
from farm.worker.client import Revoked
from farm.worker.golden import golden_run
from farm.worker.perform import Performer
from farm.worker.settings import WorkerSettings

log = logging.getLogger(__name__)

#: Failed golden runs in a row after which a card is quarantined, and how long until it is probed again.
STRIKES = 3
QUARANTINE_S = 60.0


class Card:
    """The card behind a queue, as this worker noted it at its start."""

    def __init__(self, queue: str, settings: WorkerSettings, records: Records, performer: Performer) -> None:
        self.queue = queue
        self.qid = qid_of(queue)
        self._settings = settings
        self._records = records
        self._performer = performer
        self._golden = settings.places.home / "golden" / queue
        self.device: Device | None = None
        #: What it last told of the card: fields of the devices document.
        self.facts: dict[str, Any] = {}

    def bind(self) -> None:
        """Note which card the QID means now and tell the records; one that cannot be used is quarantined.

        A card that is held may be measuring: it is not asked, but taken for the one its holder noted. Whoever
        holds it next looks whether it still is.
        """
        self.device = None
        try:
            found = resting_card(self._performer.sdk, self.qid)
        except (StageFailed, BadInput, IndexError) as error:
            self._report(None)
            self.quarantine(str(error) or f"QID {self.qid} is not listed")
            return
        if isinstance(found, HeldCard):
            self.device = self._as_noted(found)
            return
        self._report(found)
        if found.ready:
            self.device = found
        else:
            self.quarantine(f"status {found.status or 'missing'}: see `farm doctor`")

    def _as_noted(self, held: HeldCard) -> Device:
        """The card that somebody holds: as the records know it, where he is of this farm."""
        known = patiently(lambda: self._records.fleet.card_facts(self.queue))
        device = Device(self.qid, "", pci_address=held.pci_address, nsp_total=held.nsp_total)
        if known.get("pci_address") == held.pci_address:
            return replace(device, nsp_free=known.get("nsp_free"))
        self._report(device)
        return device

    def _report(self, device: Device | None) -> None:
        facts = self.facts = {
            "node": self._settings.node,
            "boot": boot_id(),
            "sku": device.sku if device else None,
            "nsp_total": device.nsp_total if device else None,
            "nsp_free": device.nsp_free if device else None,
            "serial": device.serial if device else None,
            "pci_address": device.pci_address if device else None,
            "temperature_c": device.temperature_c if device else None,
            "power_w": device.power_w if device else None,
            "seen": iso(datetime.now(timezone.utc).timestamp() * 1000),
        }
        patiently(lambda: self._records.fleet.report_card(self.queue, facts))

    def quarantine(self, reason: str) -> None:
        """Out of placement; it is proved anew each QUARANTINE_S."""
        log.warning("%s quarantined: %s", self.queue, reason, extra={"action": "quarantine"})
        patiently(
            lambda: self._records.fleet.set_health(
                self.queue, "quarantined", reason, strikes=STRIKES, again_s=QUARANTINE_S
            )
        )

    def _suspect(self, reason: str, strikes: int | None = None) -> None:
        """Out of placement until a golden run has passed. strikes None: as many as before."""
        fleet = self._records.fleet
        count = patiently(lambda: fleet.strikes(self.queue)) if strikes is None else strikes
        log.warning("%s suspect: %s", self.queue, reason, extra={"action": "suspect"})
        patiently(lambda: fleet.set_health(self.queue, "suspect", reason, strikes=count))

    def known_busy(self) -> bool:
        """Whether the records know who holds the card."""
        return patiently(lambda: self._records.fleet.in_use(self.queue))

    def others(self, job: Job) -> set[str]:
        """The farm's other cards that the job may run on."""
        return patiently(lambda: self._records.fleet.cards_for(job)) - {self.queue}

    def is_good(self, queue: str) -> bool:
        """Whether another card is in good health."""
        return patiently(lambda: self._records.fleet.health(queue)) == "good"

    def probe(self, strike: str | None = None) -> bool:
        """Prove the card by a golden run; whether it is good. strike: what it was accused of.

        A card that fails is suspect, and quarantined after STRIKES failures in a row.
        """
        if self.device is None:
            self.bind()
            if self.device is None:
                return False
        try:
            self.device = golden_run(self._performer.sdk, self._performer.launcher, self.device, self._golden)
        except OSError as error:
            # This host cannot write what the golden run needs: it is tried again as a bad card is.
            self.quarantine(f"golden run: {error}")
            return False
        except (StageFailed, BadInput) as error:
            if isinstance(error, StageFailed) and error.kind == "busy":
                # Somebody else has it: nothing is proved, for or against the card.
                self._suspect(str(error))
                return False
            strikes = patiently(lambda: self._records.fleet.strikes(self.queue)) + 1
            reason = f"{strike}; golden run: {error}" if strike else f"golden run: {error}"
            if strikes >= STRIKES:
                self.quarantine(reason)
            else:
                self._suspect(reason, strikes)
            return False
        self._report(self.device)
        patiently(lambda: self._records.fleet.set_health(self.queue, "good"))
        log.info("%s proved good", self.queue, extra={"action": "probe"})
        return True

    def run(self, claim: Claim) -> dict[str, Any]:
        """Prepare beside whatever the card does now, then hold it and run. The run stage's outcome."""
        if claim.job is None:
            raise StageFailed("host", f"stage {claim.stage} names no job")
        if self.device is None:
            self.bind()  # it could not be used when this worker started, and another has proved it since
        if self.device is None:
            raise StageFailed("busy", f"{self.queue} cannot be used: see `farm devices`")
        workdir = self._settings.places.attempt(claim.stage, claim.attempt)
        prepared = self._performer.prepare(
            claim.job, claim.inputs["export"], claim.inputs["compile"], workdir
        )
        try:
            outcome = self._performer.run(
                prepared, self.device, share=self._settings.share_card, limit_s=self._settings.run_limit_s
            )
        except StageFailed as error:
            if error.kind == "busy" and not self.known_busy():
                # Out of placement until a golden run shows that its strange tenant is gone.
                self._suspect(str(error))
            raise
        except Revoked:
            log.info("%s: run of %s given up", self.queue, claim.stage, extra={"action": "revoked"})
            raise
        outcome["device"] = self.queue.removeprefix("device.")
        outcome["node"] = self._settings.node
        outcome["queued_s"] = round(max(0, claim.claimed_ms - claim.ready_ms) / 1000, 3)
        outcome["log"] = str(workdir / "run.log")
        if self._settings.share_card:
            outcome["flags"].append("shared_card")
        outcome["cards_busy"] = self._note_after(outcome)
        return outcome

    def _note_after(self, outcome: dict[str, Any]) -> int | None:
        """Tell the figures the run saw last (nobody asks a card that measures); how many cards are busy.

        Only where Redis is there: the outcome is not on disk yet and waits for nothing.
        """
        facts = {name: outcome.get(name) for name in ("temperature_c", "power_w")}
        try:
            self._records.fleet.refresh_card(self.queue, facts)
            return self._records.fleet.cards_busy()
        except (*AWAY, Unreachable):
            return None
