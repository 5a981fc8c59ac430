"""qaic-util: the device list as text, as JSON (1.21) or as a table that refreshes itself.

Source: docs/sdk.md, "qaic-util". Status 0 even when a card is in Error; 255 for help, an unknown option and
an unknown QID, in which case nothing is printed for the other cards.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

from . import device_text, misbehave
from .card import Cards, Device

_TOOL = "qaic-util"
_INVALID = 255
_ABSENT = 127
_USAGE = """Usage: qaic-util [options]
  -q                     Query devices (the default)
  -d <qid>               Only this device; may be repeated
  -t <seconds>           Table of the devices, refreshed each so many seconds"""
_MODERN_USAGE = """
  -j <file>              With -q: write the devices to a JSON file
  -f "<name>==<value>"   Only devices with that value
  -V                     Version"""


class _Usage(Exception):
    """The command line is not the tool's."""


class _Options:
    def __init__(self) -> None:
        self.qids: list[int] = []
        self.json: str | None = None
        self.filter: tuple[str, str] | None = None
        self.refresh: float | None = None
        self.version = False


def _parse(argv: list[str], modern: bool) -> _Options:
    options = _Options()
    rest = iter(argv)
    for flag in rest:
        letter, attached = flag[:2], flag[2:]
        if flag == "-q":
            continue
        if flag == "-V" and modern:
            options.version = True
            continue
        if letter not in ({"-d", "-t", "-j", "-f"} if modern else {"-d", "-t"}):
            raise _Usage(flag)
        value = attached or next(rest, "")
        if not value:
            raise _Usage(flag)
        if letter == "-d":
            options.qids.append(_leading_number(value))
        elif letter == "-t":
            options.refresh = max(1, _leading_number(value))
        elif letter == "-j":
            options.json = value
        else:
            name, _, wanted = value.partition("==")
            options.filter = (name.strip(), wanted.strip())
    return options


def _leading_number(text: str) -> int:
    """What C's atoi makes of the text: `abc` is 0."""
    found = re.match(r"\s*[+-]?\d+", text)
    return int(found.group()) if found else 0


def main(program: str, argv: list[str], root: Path) -> int:
    """Run qaic-util; its exit status."""
    cards = Cards(root)
    scenario, modern = cards.scenario, cards.settings.modern
    if scenario.fault(_TOOL, "absent") is not None:
        print(f"{program}: not found", file=sys.stderr)
        return _ABSENT
    try:
        options = _parse(argv, modern)
    except _Usage:
        print(_USAGE + (_MODERN_USAGE if modern else ""))
        return _INVALID
    misbehave.at_start(scenario, _TOOL)
    status = misbehave.death(scenario, _TOOL)
    if status is not None:
        return status
    if options.version:
        print(f"{program} version {cards.settings.build}")
        return 0
    while True:
        devices = cards.devices()
        if scenario.fault(_TOOL, "permission") is not None:
            for device in devices:
                device.status = "Error"
        listed = {device.qid for device in devices}
        for qid in options.qids:
            if qid not in listed:
                print(f"Device {qid} invalid", file=sys.stderr)
                return _INVALID
        chosen = [device for device in devices if not options.qids or device.qid in options.qids]
        if options.refresh is None:
            return _print(chosen, len(devices), cards, options)
        _print_table(chosen)
        time.sleep(options.refresh)


def _print(devices: list[Device], count: int, cards: Cards, options: _Options) -> int:
    records = [(device, device_text.record(device, cards.settings, cards.scenario)) for device in devices]
    if options.filter is not None:
        name, wanted = options.filter
        records = [
            (device, lines) for device, lines in records if f"{name}:{wanted}" in [x.strip() for x in lines]
        ]
    if options.json is not None:
        listed = {"device_info": [_as_json(device) for device, _ in records]}
        Path(options.json).write_text(json.dumps(listed, indent=4) + "\n")
        return 0
    lines = device_text.preamble(count, cards.settings)
    for _, text in records:
        lines += text
    print("\n".join(lines))
    return 0


def _as_json(device: Device) -> dict[str, object]:
    found: dict[str, object] = {
        "qid": device.qid,
        "dev_status": device.status,
        "pci_address": device.pci,
        "sku_type": device.sku,
        "board_serial": device.serial,
    }
    if device.ready:
        found |= {
            "nsp_total": device.nsp_total,
            "nsp_free": device.nsp_free,
            "dram_total": device.dram_total_mb,
            "dram_free": device.dram_free_mb,
        }
    return found


def _print_table(devices: list[Device]) -> None:
    print("\x1b[2J\x1b[H" + f"{'QID':>4} {'Status':<14} {'NSP free':>9} {'Temp C':>7} {'Power W':>8}")
    for device in devices:
        temperature, power = device_text.telemetry(device)
        nsp = f"{device.nsp_free}/{device.nsp_total}"
        print(f"{device.qid:>4} {device.status:<14} {nsp:>9} {temperature:>7.2f} {power:>8.2f}", flush=True)
