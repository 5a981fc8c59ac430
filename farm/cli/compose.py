"""The compose override for this host: its real device nodes and group (`farm devices --compose`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from farm.domain.errors import BadInput

if TYPE_CHECKING:
    from farm.sdk.devices import Device

#: The card services that docker-compose.yml has.
SERVICES = 8


def override() -> str:
    """The override, from what qaic-util says on this host.

    Raises BadInput without an SDK or cards, and while one is held: only qaic-util knows its device node.
    """
    from farm.sdk.resting import resting_cards
    from farm.sdk.root import find_root, open_sdk

    devices, held = resting_cards(open_sdk(find_root()))
    if held:
        raise BadInput(
            f"card {held[0].pci_address} is held and is not asked: it may measure; try again when it is idle"
        )
    if not devices:
        raise BadInput("qaic-util lists no card on this host")
    return render(devices)


def render(devices: Sequence[Device]) -> str:
    """The override for these cards: `!override` replaces the base file's lists (Compose 2.24.4 or later).

    A service whose card is not there is put into a profile that nobody asks for.
    """
    lines = ["# Written by `farm devices --compose` on this host.", "services:"]
    for device in devices:
        if device.node is None:
            raise BadInput(f"qaic-util names no device node for card {device.qid}: are you in group qaic?")
        lines.append(f"  device-{device.qid}:")
        if device.qid >= SERVICES:
            lines.append("    extends: {file: docker-compose.yml, service: device-0}")
            lines.append(f'    command: !override ["worker", "device", "{device.qid}"]')
        lines.append(f'    devices: !override ["{device.node}:{device.node}"]')
        gid = _group_of(Path(device.node))
        if gid is not None:
            lines.append(f'    group_add: !override ["{gid}"]')
    present = {device.qid for device in devices}
    for qid in range(SERVICES):
        if qid not in present:
            lines += [f"  device-{qid}:", "    profiles: [no-card]"]
    return "\n".join(lines) + "\n"


def _group_of(node: Path) -> int | None:
    """The group that may open the node; None where the node is not a file here (an emulated card)."""
    try:
        return node.stat().st_gid
    except FileNotFoundError:
        return None
