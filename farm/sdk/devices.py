"""The cards as qaic-util tells them.

Source: the open runtime's QUtil.cpp and logs of several SDKs (docs/sdk.md, "qaic-util").
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from farm.domain.errors import StageFailed
from farm.domain.text import printable
from farm.sdk.argv import util_argv
from farm.sdk.ask import ask
from farm.sdk.root import Sdk

_RECORD = re.compile(r"^QID ([0-9]{1,4})\s*$", re.MULTILINE)
_NUMBER = re.compile(r"[-+]?[0-9]{1,9}(?:\.[0-9]{1,9})?")
_MEMORY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*(KB|MB|GB)", re.IGNORECASE | re.ASCII)
#: How much of what the tool said last goes into a message.
_MAX_MESSAGE = 300
_MB = {"KB": 1 / 1024, "MB": 1.0, "GB": 1024.0}


class NoSuchCard(StageFailed):
    """qaic-util does not know a QID."""


@dataclass(frozen=True)
class Device:
    """One card. A value that qaic-util did not print is None: a card that is not Ready shows no cores.

    status: Initializing, Ready, Error, Unknown, or "" where even that is missing. dram_*_mb in MB,
    nsp_mhz in MHz, temperature_c of the SoC in degrees C, power_w of the board and its cap tdp_w in W.
    node is the device node that `Dev Link` names. fields holds everything printed, by the SDK's names.
    """

    qid: int
    status: str
    pci_address: str | None = None
    node: str | None = None
    serial: str | None = None
    sku: str | None = None
    firmware: str | None = None
    nsp_total: int | None = None
    nsp_free: int | None = None
    vc_free: int | None = None
    networks_active: int | None = None
    dram_total_mb: float | None = None
    dram_free_mb: float | None = None
    nsp_mhz: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    tdp_w: float | None = None
    fields: Mapping[str, str] = field(default_factory=dict, hash=False, repr=False)

    @property
    def ready(self) -> bool:
        """Whether the card says Ready and tells its cores; anything less is unusable."""
        return (
            self.status == "Ready"
            and self.nsp_total is not None
            and self.nsp_free is not None
            and 0 <= self.nsp_free <= self.nsp_total
            and self.nsp_total > 0
        )


def parse_devices(text: str) -> list[Device]:
    """The cards in the output of `qaic-util -q`, in its order. Unknown fields and lines are no error.

    Of a QID that is printed twice the first record counts.
    """
    _preamble, *pieces = _RECORD.split(text)
    found: dict[int, Device] = {}
    for qid, record in zip(map(int, pieces[::2]), pieces[1::2], strict=True):
        if qid not in found:
            found[qid] = _device(qid, record)
    return list(found.values())


def query(sdk: Sdk, qids: Sequence[int] | None = None, timeout_s: float = 30.0) -> list[Device]:
    """Ask qaic-util for the cards `qids` (None: all).

    Raises StageFailed: "card" where the tool refuses a QID (NoSuchCard) or does not answer in time, "host"
    where it fails otherwise.
    """
    answer = ask(util_argv(sdk, qids or ()), timeout_s, sdk.environment())
    result = answer.result
    last = next((line for line in reversed(answer.text.splitlines()) if line.strip()), "no output")
    last = last.strip()[:_MAX_MESSAGE]
    if result.ended != "exit":
        raise StageFailed("card", f"{sdk.util.name} gave no answer within {timeout_s:.0f} s")
    if not result.ok:
        refused = re.search(r"Device \d+ invalid", answer.text)
        how = f"signal {result.signal}" if result.signal else f"status {result.returncode}"
        message = f"{sdk.util.name} ended with {how}: {last}"
        raise NoSuchCard("card", message) if refused else StageFailed("host", message)
    devices = parse_devices(answer.text)
    missing = sorted(set(qids or ()) - {device.qid for device in devices})
    if missing:
        raise NoSuchCard("card", f"{sdk.util.name} does not list device {missing[0]}: {last}")
    return devices


def _device(qid: int, record: str) -> Device:
    fields = _fields(record)
    return Device(
        qid=qid,
        status=fields.get("Status", ""),
        pci_address=fields.get("PCI Address", "").lower() or None,
        node=fields.get("Dev Link") or None,
        serial=fields.get("Board serial") or None,
        sku=fields.get("Sku Type") or None,
        firmware=fields.get("FW Version") or None,
        nsp_total=_whole(fields.get("Nsp Total")),
        nsp_free=_whole(fields.get("Nsp Free")),
        vc_free=_whole(fields.get("Vc Free")),
        networks_active=_whole(fields.get("Networks Active")),
        dram_total_mb=_memory(fields.get("Dram Total")),
        dram_free_mb=_memory(fields.get("Dram Free")),
        nsp_mhz=_number(fields.get("NSP Frequency(Mhz)")),
        temperature_c=_number(fields.get("SoC temperature(degree C)")),
        power_w=_number(fields.get("Board power(Watts)")),
        tdp_w=_number(fields.get("TDP Cap(Watts)")),
        fields=fields,
    )


def _fields(record: str) -> dict[str, str]:
    """`name: value` of each indented line, fit for a terminal; of a name printed twice the first counts."""
    found: dict[str, str] = {}
    for line in record.split("\n"):
        name, colon, value = (part.strip(" \t\r") for part in line.partition(":"))
        if line[:1] in (" ", "\t") and name and colon:
            found.setdefault(printable(name), printable(value))
    return found


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and _NUMBER.fullmatch(text) else None


def _whole(text: str | None) -> int | None:
    number = _number(text)
    return int(number) if number is not None and number >= 0 and number.is_integer() else None


def _memory(text: str | None) -> float | None:
    found = _MEMORY.fullmatch(text or "")
    return float(found[1]) * _MB[found[2].upper()] if found else None
