"""What `farm doctor` reads from the records: coordinator, workers and cards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import psutil

from farm.cli.check import Check
from farm.domain.queues import CPU_QUEUES

if TYPE_CHECKING:
    from farm.records import Records
    from farm.sdk.lock import HeldCard


def fleet_checks(records: Records, node: str) -> Iterator[Check]:
    """The farm as its records tell it. node: this host's name in it."""
    alive = records.coordinator_alive()
    yield Check("coordinator", "ok" if alive else "bad", "at work" if alive else _no_coordinator())
    if why := records.fleet.halted():
        yield Check("disk of Redis", "bad", f"nothing new is started: {why}")
    if drift := records.recount.drift():
        told = f"{drift} had drifted and were repaired: a defect of the farm, told in the coordinator's log"
        yield Check("counters", "note", told)
    workers = records.fleet.workers()
    yield from _workers(workers, node)
    for card in records.cards():
        yield _card(card)


def strangers(records: Records, held: Sequence[HeldCard], node: str) -> Iterator[Check]:
    """Cards of this host whose lock is held though the records know of no run on them."""
    known = {card["pci_address"]: card["queue"] for card in records.cards() if card["node"] == node}
    for lock in held:
        queue = known.get(lock.pci_address)
        if queue is None or records.fleet.in_use(queue):
            continue
        pids = ", ".join(map(str, lock.pids)) or "not visible to this user"
        way_out = "another farm, farm run, or an orphan; the card waits for it"
        yield Check(f"lock of {queue}", "note", f"held by process {pids}, of no run of this farm: {way_out}")


def _no_coordinator() -> str:
    return "none: farm up, or farm coordinator"


def _workers(workers: Sequence[Mapping[str, Any]], node: str) -> Iterator[Check]:
    served = {queue for worker in workers for queue in worker["queues"]}
    missing = [queue for queue in CPU_QUEUES if queue not in served]
    if missing:
        yield Check("CPU workers", "bad", f"nobody serves {', '.join(missing)}: farm worker cpu, or farm up")
    else:
        count = sum(1 for worker in workers if not worker["card"])
        yield Check("CPU workers", "ok", f"{count} serve {', '.join(CPU_QUEUES)}")
    for worker in workers:
        if worker["node"] == node and (fault := _fault(int(worker["pid"]))):
            yield Check(f"worker {worker['worker']}", "bad", fault)


def _fault(pid: int) -> str | None:
    """What is wrong with a worker's process on this host, None where nothing is seen."""
    try:
        status = psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        status = psutil.STATUS_ZOMBIE
    if status == psutil.STATUS_STOPPED:
        return f"process {pid} is stopped and takes nothing: kill -CONT {pid} lets it go on"
    # A container's init may never reap a zombie: it has ended all the same.
    ended = status in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    return f"process {pid} is not there any more; the records will forget it" if ended else None


def _card(card: Mapping[str, Any]) -> Check:
    what = f"card {card['queue']}"
    since = f" since {card['since']}" if card["since"] else ""
    reason = f": {card['reason']}" if card["reason"] else ""
    if card["health"] == "quarantined":
        return Check(what, "bad", f"quarantined{since}{reason}; it is tried again each minute")
    if card["health"] == "drained":
        way_out = f"farm devices resume {card['device']} puts it back"
        return Check(what, "note", f"drained{since}; {way_out}")
    if not card["workers"]:
        return Check(
            what, "bad", f"{card['health']}, but no worker serves it: farm worker device, or farm up"
        )
    if card["health"] == "suspect":
        return Check(what, "note", f"suspect{since}{reason}; a golden run decides")
    return Check(what, "ok", f"{card['health']}, {card['state']}, {card['workers']} workers")
