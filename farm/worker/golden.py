"""Proving a card: hold it, see that it is Ready, run the golden program, believe only its Stats line."""

from __future__ import annotations

import shutil
from importlib.resources import as_file, files
from pathlib import Path

from farm.domain.errors import StageFailed
from farm.sdk.child import ChildSpec
from farm.sdk.devices import Device, query
from farm.sdk.errors_text import compiler_failure, runner_failure
from farm.sdk.golden import golden_argv, golden_compile_argv, golden_program
from farm.sdk.launcher import CardLockRequest, Launcher
from farm.sdk.lock import lock_folder
from farm.sdk.root import Sdk
from farm.sdk.stats import parse_stats

#: A golden run takes a second; a card that needs longer than this hangs.
LIMIT_S = 60.0
COMPILE_LIMIT_S = 600.0
LOCK_WAIT_S = 5.0


def golden_run(sdk: Sdk, launcher: Launcher, device: Device, folder: Path) -> Device:
    """Run the golden program on the card alone: the card as it was before. folder: scratch of this card.

    Raises StageFailed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    program = golden_program(sdk) or _own_program(sdk, launcher, folder)
    log = folder / "run.log"
    if device.pci_address is None or device.nsp_total is None:
        raise StageFailed("card", f"device.{device.qid}: its PCI address or cores are unknown")
    request = CardLockRequest(lock_folder(sdk.root), device.pci_address, device.nsp_total, qid=device.qid)
    with launcher.hold(request, LOCK_WAIT_S):
        now = query(sdk, [device.qid])[0]
        if now.pci_address != device.pci_address:
            raise StageFailed(
                "card",
                f"device.{device.qid} is now at {now.pci_address}, not {device.pci_address}: QIDs shifted",
            )
        if not now.ready:
            raise StageFailed("card", f"device.{device.qid}: status {now.status or 'missing'}")
        result = launcher.run(
            ChildSpec(
                golden_argv(sdk, program, device.qid, folder), folder, log, LIMIT_S, env=sdk.environment()
            )
        )
    if not result.ok:
        raise runner_failure(result)
    parse_stats(log, batch_size=1)
    return now


def _own_program(sdk: Sdk, launcher: Launcher, folder: Path) -> Path:
    """A small matrix product compiled for this SDK, where its own test program is not installed."""
    log, program = folder / "compile.log", folder / "qpc"
    with as_file(files("farm.data") / "golden.onnx") as onnx:
        result = launcher.run(
            ChildSpec(
                golden_compile_argv(sdk, onnx, program), folder, log, COMPILE_LIMIT_S, env=sdk.environment()
            )
        )
    if not result.ok:
        raise compiler_failure(result)
    return program
