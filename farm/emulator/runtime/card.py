"""The emulated driver: which cards there are, what is free on them, and activation, which really takes it.

Every NSP core, virtual channel, MCID, semaphore, MB of memory and network slot of a card is one byte of
`state/card-<slot>.lock`, taken as an OFD lock: refused while another process holds it, free again when the
holder dies, however it dies. The slot is the QID the card had when the root was written; QIDs shift when a
card vanishes, locks and logs do not. Source for the resources: docs/sdk.md, "coexistence on one card".
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import scenario as scenarios
from . import settings as settings_file
from .locks import LockFile

if TYPE_CHECKING:
    from .lag import LagHolder

#: First byte of each resource in the lock file, and how many a card has (None: the card's own figure).
_REGIONS: dict[str, tuple[int, int | None]] = {
    "nsp": (0, None),
    "vc": (1_000, 16),
    "semaphore": (2_000, 32),
    "loaded": (3_000, 64),
    "active": (4_000, 64),
    "mcid": (10_000, 3072),
    "dram": (100_000, None),  # MB
}
_ALLOCATOR = 10_000_000  # held while one process chooses its bytes

READY = "Ready"
DEVICE_ERROR = 300  # QS_DEV_ERROR, the status an activation fails with


class ActivateError(Exception):
    """The card refused: `text` holds the SDK's error lines, `status` the QStatus behind them."""

    def __init__(self, text: str, status: int = DEVICE_ERROR) -> None:
        super().__init__(text)
        self.text = text
        self.status = status


class Device:
    """One card as seen at one moment: the facts of emulator.json, its status and its free resources."""

    def __init__(self, qid: int, slot: int, facts: dict[str, Any], status: str, free: dict[str, int]) -> None:
        self.qid = qid
        self.slot = slot
        self.status = status
        self.serial: str = facts["serial"]
        self.hw_serial: str = facts["hw_serial"]
        self.pci: str = facts["pci"]
        self.sku: str = facts["sku"]
        self.mhi: int = facts["mhi"]
        self.dev_link: str = facts["dev_link"]
        self.tdp_w: float = facts["tdp_w"]
        self.nsp_total: int = facts["nsp_total"]
        self.nsp_free = free["nsp"]
        self.dram_total_mb: int = facts["dram_mb"]
        self.dram_free_mb = free["dram"]
        self.vc_total, self.vc_free = _total("vc", facts), free["vc"]
        self.mcid_total, self.mcid_free = _total("mcid", facts), free["mcid"]
        self.semaphore_total, self.semaphore_free = _total("semaphore", facts), free["semaphore"]
        self.networks_loaded = _total("loaded", facts) - free["loaded"]
        self.networks_active = _total("active", facts) - free["active"]
        self.changed_at = 0.0  # wall clock of the last activation or release, 0 when there was none

    @property
    def ready(self) -> bool:
        """Whether the card takes programs."""
        return self.status == READY


def _total(resource: str, facts: dict[str, Any]) -> int:
    fixed = _REGIONS[resource][1]
    if fixed is not None:
        return fixed
    return int(facts["nsp_total"] if resource == "nsp" else facts["dram_mb"])


class Activation:
    """Resources held on one card until `close`, or the death of this process.

    `cores` has one tuple of NSP numbers for each instance.
    """

    def __init__(
        self,
        cards: Cards,
        device: Device,
        lock: LockFile,
        cores: list[tuple[int, ...]],
        program: str,
        holder: LagHolder | None,
    ) -> None:
        self.device = device
        self.cores = cores
        self.program = program
        self._cards = cards
        self._lock = lock
        self._holder = holder

    def close(self) -> None:
        """Give everything back. Closing twice does nothing."""
        if self._lock.fd < 0:
            return
        self._cards._log(self.device.slot, "deactivate", self.cores, self.program)
        self._lock.close()
        if self._holder is not None:
            self._holder.release()

    def __enter__(self) -> Activation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Cards:
    """The cards of one emulated root."""

    def __init__(self, root: Path, scenario: scenarios.Scenario | None = None) -> None:
        self.settings = settings_file.load(root)
        self.scenario = scenario or scenarios.load(root)
        self._state = self.settings.state

    def _facts(self) -> list[tuple[int, dict[str, Any]]]:
        changes = {change["qid"]: change for change in self.scenario.cards}
        present = []
        for slot, facts in enumerate(self.settings.cards):
            if self.scenario.fault("card", "vanish", qid=facts["qid"]) is None:
                present.append((slot, {**facts, **changes.get(facts["qid"], {})}))
        return present

    def devices(self) -> list[Device]:
        """Every card the driver lists now, in QID order."""
        return [self._look(qid, slot, facts) for qid, (slot, facts) in self._numbered()]

    def _numbered(self) -> list[tuple[int, tuple[int, dict[str, Any]]]]:
        """QIDs are handed out in slot order to the cards that are there."""
        return list(zip([facts["qid"] for facts in self.settings.cards], self._facts(), strict=False))

    def device(self, qid: int) -> Device | None:
        """The card with that QID, or None."""
        return next((self._look(qid, *found) for number, found in self._numbered() if number == qid), None)

    def _look(self, qid: int, slot: int, facts: dict[str, Any]) -> Device:
        broken = self.scenario.fault("card", "status", qid=qid)
        status = READY if broken is None else str(broken.get("status", "Error"))
        with LockFile(self._lock_path(slot)) as lock:
            free = {
                name: _total(name, facts) - lock.held_elsewhere(start, _total(name, facts))
                for name, (start, _) in _REGIONS.items()
            }
        tenant = self.scenario.fault("card", "tenant", qid=qid)
        if tenant is not None:
            taken = min(int(tenant.get("nsp", free["nsp"])), free["nsp"])
            free["nsp"] -= taken
            free["active"] -= min(1, taken)
            free["loaded"] -= min(1, taken)
        device = Device(qid, slot, facts, status, free)
        with suppress(FileNotFoundError):
            device.changed_at = self.log_path(slot).stat().st_mtime
        return device

    def activate(self, qid: int, cores: int, instances: int, program: str, dram_bytes: int = 0) -> Activation:
        """Take `cores` NSPs for each of `instances` copies of `program`, and `dram_bytes` once for all.

        Raises ActivateError, having taken nothing, when the card is not there, not Ready or short.
        """
        found = next((found for number, found in self._numbered() if number == qid), None)
        if found is None:
            raise ActivateError(f"Invalid device:{qid}", 5)
        slot, facts = found
        lock = LockFile(self._lock_path(slot))
        try:
            lock.lock(_ALLOCATOR)
            device = self._look(qid, slot, facts)
            if not device.ready:
                raise ActivateError(f"Device:{qid} not in ready state", 5)
            self._refuse(device, cores * instances, instances)
            taken = self._take(lock, device, facts, cores * instances, instances, dram_bytes)
            lock.unlock(_ALLOCATOR)
        except BaseException:
            lock.close()
            raise
        groups = [tuple(taken[at : at + cores]) for at in range(0, cores * instances, cores)]
        lag = self.scenario.fault("card", "nsp-lag", qid=qid)
        holder = None
        if lag is not None:
            from .lag import LagHolder  # rare, and it would slow every qaic-util down

            holder = LagHolder(lock.fd, float(lag.get("seconds", 2.0)))
        self._log(slot, "activate", groups, program)
        return Activation(self, device, lock, groups, program, holder)

    def _refuse(self, device: Device, cores: int, instances: int) -> None:
        """Raise where the scenario, or a tenant that only the scenario knows, stands in the way."""
        for fault, reason in (
            ("activate-memory", "Memory resource exhausted"),
            ("activate-nsp", "Failed to allocate NSP resources"),
            ("activate-vc", "Failed to allocate virtual channel"),
        ):
            if self.scenario.fault("card", fault, qid=device.qid) is not None:
                raise refusal(device.qid, reason)
        if cores > device.nsp_free:
            raise refusal(device.qid, "Failed to allocate NSP resources")
        if instances > device.vc_free:
            raise refusal(device.qid, "Failed to allocate virtual channel")

    def _take(
        self,
        lock: LockFile,
        device: Device,
        facts: dict[str, Any],
        cores: int,
        instances: int,
        dram_bytes: int,
    ) -> list[int]:
        """Lock what the activation needs, lowest numbers first; the NSP numbers it got."""
        wanted = {
            "nsp": (cores, "Failed to allocate NSP resources"),
            "vc": (instances, "Failed to allocate virtual channel"),
            "semaphore": (2 * instances, "Failed to allocate semaphore"),
            "mcid": (instances, "Failed to allocate MCID"),
            "active": (instances, "Memory resource exhausted"),
            "loaded": (1, "Memory resource exhausted"),
            "dram": (-(-dram_bytes // 2**20), "Memory resource exhausted"),
        }
        got: list[int] = []
        for resource, (count, reason) in wanted.items():
            numbers = _lock_lowest(lock, _REGIONS[resource][0], _total(resource, facts), count)
            if numbers is None:
                raise refusal(device.qid, reason)
            if resource == "nsp":
                got = numbers
        return got

    def _lock_path(self, slot: int) -> Path:
        return self._state / f"card-{slot}.lock"

    def log_path(self, slot: int) -> Path:
        """The card's log: one JSON line for each activation and release."""
        return self._state / f"card-{slot}.log"

    def _log(self, slot: int, event: str, cores: list[tuple[int, ...]], program: str) -> None:
        line = {
            "event": event,
            "pid": os.getpid(),
            "monotonic": time.monotonic(),
            "wall": time.time(),
            "cores": [number for group in cores for number in group],
            "instances": len(cores),
            "program": program,
        }
        with self.log_path(slot).open("ab") as log:
            log.write(json.dumps(line).encode() + b"\n")


def _lock_lowest(lock: LockFile, start: int, total: int, count: int) -> list[int] | None:
    """Lock the `count` lowest free bytes of the region; their numbers, or None when fewer are free."""
    got: list[int] = []
    at = start
    for low, high in [*lock.locked_ranges(start, total), (start + total, start + total)]:
        size = min(low - at, count - len(got))
        if size > 0:
            if not lock.try_lock(at, size):
                return None
            got += range(at - start, at - start + size)
        at = high
    return got if len(got) == count else None


def refusal(qid: int, reason: str) -> ActivateError:
    """What the SDK prints when the driver refuses an activation. Source: public issue logs; docs/sdk.md."""
    now = time.time()
    stamp = time.strftime("%H:%M:%S", time.localtime(now)) + f".{int(now * 1000) % 1000:03d}"
    lead = f"ERROR : [{stamp}][error]"
    return ActivateError(
        f"{lead}[QKmdDevice][activate:#1172] Device {qid} activate failed: {reason}\n"
        f"{lead}[QRuntime][activateNetwork:#333] Dev {qid} activate failed status {DEVICE_ERROR}\n"
        f"[Aic-{qid}][ProgDev:Id:  0,L: 763] Failed to Activate program\n"
        "QAIC_ERROR_EXECOBJ_RUNTIME [ExecObj:0] Error activating programContextId:0"
    )
