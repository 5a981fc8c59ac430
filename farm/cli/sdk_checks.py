"""What `farm doctor` looks at in the SDK root, and the cards that nobody holds."""

from __future__ import annotations

import grp
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from farm.cli.check import Check
from farm.domain.errors import FarmError

if TYPE_CHECKING:
    from farm.sdk.devices import Device
    from farm.sdk.lock import HeldCard
    from farm.sdk.root import Sdk


def sdk_checks(find: Callable[[], Path]) -> Iterator[Check]:
    """The SDK root that is found, its tools and the cards that nobody holds."""
    from farm.sdk.resting import resting_cards
    from farm.sdk.root import open_sdk

    try:
        sdk = open_sdk(find())
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
