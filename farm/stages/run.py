"""The run stage: an attempt's private tree is laid out, then the card is held for the run alone."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import psutil

import farm.sdk
from farm.domain.errors import StageFailed
from farm.domain.job import Job
from farm.sdk.api_child import file_name
from farm.sdk.argv import runner_argv
from farm.sdk.batch_io import InputBinding, write_batch_io
from farm.sdk.child import ChildResult, ChildSpec
from farm.sdk.devices import Device, query
from farm.sdk.errors_text import runner_failure, usage_instead
from farm.sdk.launcher import CardLockRequest, Launcher
from farm.sdk.lock import lock_folder
from farm.sdk.root import Sdk
from farm.stages.commands import commands_text, output_samples
from farm.stages.inputs import InputFile, generate_inputs
from farm.stages.workdir import Tree, link_files, tree

#: Seconds for another process to let go of the card's lock.
LOCK_WAIT_S = 5.0
#: Seconds for the card's free NSPs to be back at their idle value before a run, and after it.
BASELINE_WAIT_S = 30.0
AFTER_WAIT_S = 5.0
_POLL_S = 0.5


class Card(Protocol):
    """The card a run goes to, as noted when its worker started."""

    @property
    def qid(self) -> int:
        """The number the SDK gives the card now."""
        ...

    @property
    def pci_address(self) -> str | None:
        """Where the card is plugged in: this, not the QID, tells which card it is."""
        ...

    @property
    def nsp_total(self) -> int | None:
        """The card's cores."""
        ...

    @property
    def nsp_free(self) -> int | None:
        """Its free cores as noted while nothing of the farm ran on it; None where that is not known."""
        ...

    @property
    def networks_active(self) -> int | None:
        """Its active networks, noted at the same time."""
        ...


@dataclass(frozen=True)
class NotedCard:
    """A card known from the note of who holds it now; how it is when idle is not known."""

    qid: int
    pci_address: str | None
    nsp_total: int | None
    nsp_free: int | None = None
    networks_active: int | None = None


@dataclass(frozen=True)
class PreparedRun:
    """All that can be made ready before the card is held. since_ns: what is older is of another run."""

    job: Job
    io: Mapping[str, Any]
    workdir: Path
    tree: Tree
    inputs: tuple[InputFile, ...]
    since_ns: int
    seconds: float

    @property
    def outputs(self) -> dict[str, Path]:
        """Where the card's outputs of one inference will lie, by the network's names."""
        return {
            output["name"]: self.tree.outputs / file_name(output["name"]) for output in self.io["outputs"]
        }


@dataclass(frozen=True)
class RawRun:
    """What came of holding the card: the child's end, the card before and after, seconds of both."""

    result: ChildResult
    before: Device
    after: Device
    foreign_tenant: bool
    card_s: float
    host_busy: float
    started: str
    finished: str
    sdk: Sdk


def prepare_run(
    job: Job, onnx: Path, io: Mapping[str, Any], qpc: Path, workdir: Path, sdk: Sdk
) -> PreparedRun:
    """Lay out the attempt's tree below `workdir`, a folder of this attempt alone.

    Raises StageFailed("host") where the SDK cannot serve the job's route.
    """
    started = time.monotonic()
    if job.route == "api" and sdk.python is None:
        raise StageFailed("host", f"the api route cannot run here: {sdk.python_reason}")
    place = tree(workdir.absolute(), job)
    place.make()
    since_ns = place.outputs.stat().st_mtime_ns
    link_files(onnx.parent, place.model.parent, prefix=onnx.name)
    link_files(qpc, place.qpc)
    config = job.config
    inputs = tuple(generate_inputs(io, config.batch_size, config.seq_length, job.seed, place.inputs))
    write_batch_io(place.batch_io, [_binding(file) for file in inputs])
    place.input_list.write_text(",".join(str(file.path) for file in inputs) + "\n")
    return PreparedRun(job, io, workdir.absolute(), place, inputs, since_ns, time.monotonic() - started)


def execute_run(
    prepared: PreparedRun,
    device: Card,
    launcher: Launcher,
    sdk: Sdk,
    *,
    share: bool = False,
    limit_s: float | None = None,
    python: Path = Path(sys.executable),
) -> RawRun:
    """Hold the card and run. share: hold just the NSPs the job needs, beside other jobs of the farm.

    limit_s: start to finish of the child. python: the interpreter named in the commands file.
    Raises StageFailed: "busy" (held, or too few NSPs free), "card", or what the child's log says.
    """
    job, place = prepared.job, prepared.tree
    pci_address, nsp_total = device.pci_address, device.nsp_total
    if pci_address is None or nsp_total is None:
        raise StageFailed("card", f"device.{device.qid}: its PCI address or cores are unknown")
    text = commands_text(
        job, prepared.io, place, [file.path for file in prepared.inputs], sdk, device.qid, python
    )
    place.commands.write_text(text)
    spec = _child(prepared, device.qid, sdk, limit_s)
    needed = job.config.cores_needed
    idle = nsp_total if device.nsp_free is None else device.nsp_free
    wanted = needed if share else max(needed, idle)
    request = CardLockRequest(
        lock_folder(sdk.root), pci_address, nsp_total, needed if share else None, device.qid
    )
    with launcher.hold(request, LOCK_WAIT_S):
        held_at, started = time.monotonic(), _now()
        before = _await_card(sdk, device, wanted, BASELINE_WAIT_S)
        if (before.nsp_free or 0) < needed:
            raise StageFailed(
                "busy", f"device.{device.qid}: {before.nsp_free} of {nsp_total} NSPs free, {needed} needed"
            )
        cpu = psutil.cpu_times()
        result = launcher.run(spec)
        host_busy = _busy_share(cpu, psutil.cpu_times())
        if not result.ok:
            raise runner_failure(result)
        if job.route == "runner" and (failure := usage_instead(result)) is not None:
            raise failure
        after = _await_card(sdk, device, needed if share else max(wanted, before.nsp_free or 0), AFTER_WAIT_S)
        card_s = time.monotonic() - held_at
    foreign = not share and _foreign_tenant(idle, device.networks_active, before, after)
    return RawRun(result, before, after, foreign, card_s, host_busy, started, _now(), sdk)


def _await_card(sdk: Sdk, device: Card, wanted: int, wait_s: float) -> Device:
    """The card once `wanted` NSPs are free on it, else as it is after wait_s.

    Free NSPs lag behind the end of a process, so the card is asked again until they are back.
    """
    deadline = time.monotonic() + wait_s
    while True:
        card = query(sdk, [device.qid])[0]
        if card.ready and card.pci_address != device.pci_address:
            raise StageFailed(
                "card",
                f"device.{device.qid} is now at {card.pci_address}, not {device.pci_address}: QIDs shifted",
            )
        if not card.ready and card.status != "Initializing":
            raise StageFailed("card", f"device.{device.qid} is not usable: status {card.status or 'missing'}")
        if card.ready and (card.nsp_free or 0) >= wanted:
            return card
        if time.monotonic() >= deadline:
            if card.ready:
                return card
            raise StageFailed("card", f"device.{device.qid} was still initializing after {wait_s:.0f} s")
        time.sleep(_POLL_S)


def _foreign_tenant(idle_nsps: int, idle_networks: int | None, before: Device, after: Device) -> bool:
    """Whether somebody else's cores or networks show before or after the run, against the idle card.

    Idle is the best of what was noted and of the two looks, so a card that always has fewer free NSPs (a
    core fused off, a tenant that was there when the worker started) is not blamed in each run.
    """
    free = [card.nsp_free or 0 for card in (before, after)]
    active = [card.networks_active or 0 for card in (before, after)]
    return min(free) < max(idle_nsps, *free) or max(active) > min(idle_networks or 0, *active)


def _child(prepared: PreparedRun, qid: int, sdk: Sdk, limit_s: float | None) -> ChildSpec:
    job, place = prepared.job, prepared.tree
    if job.route == "api":
        _write_request(prepared, qid, sdk)
        script = Path(farm.sdk.__file__).with_name("api_child.py")
        argv = [str(sdk.python), str(script), str(place.api_request), str(place.qpc), str(place.outputs)]
    else:
        argv = runner_argv(
            sdk,
            job.config,
            qpc=place.qpc,
            qid=qid,
            seconds=job.seconds,
            output_dir=place.outputs,
            batch_json=place.batch_io,
            input_files=[file.path for file in prepared.inputs],
            samples=output_samples(job),
        )
    phases = 2 if job.route == "api" else 1
    return ChildSpec(
        argv=argv,
        cwd=place.folder,
        log=prepared.workdir / "run.log",
        limit_s=limit_s or phases * job.seconds * 1.5 + 180,
        env=sdk.environment(),
        idle_s=job.seconds + 60,  # a run may say nothing and wait on the card from start to end
    )


def _write_request(prepared: PreparedRun, qid: int, sdk: Sdk) -> None:
    config = prepared.job.config
    request = {
        "library_dir": str(sdk.lib_dir),
        "qid": qid,
        "instances": config.instances,
        "set_size": config.set_size,
        "batch_size": config.batch_size,
        "seconds": prepared.job.seconds,
        "inputs": [
            {"name": file.name, "path": file.path.name, "dtype": str(file.dtype), "dims": list(file.dims)}
            for file in prepared.inputs
        ],
    }
    prepared.tree.api_request.write_text(json.dumps(request, indent=1) + "\n")


def _binding(file: InputFile) -> InputBinding:
    return InputBinding(file.name, file.path, np.dtype(file.dtype).itemsize, tuple(file.dims))


def _busy_share(before: Any, after: Any) -> float:
    """The share of all the host's CPU time between two readings that was not idle, 0 to 1."""
    total = sum(after) - sum(before)
    idle = after.idle + after.iowait - before.idle - before.iowait
    # The kernel's idle and iowait figures may step back a little: then a share would leave 0 to 1.
    return min(1.0, max(0.0, float(1 - idle / total))) if total > 0 else 0.0


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
