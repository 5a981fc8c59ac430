"""`qaicrt.Util`: what there is to know about devices and versions. Source: docs/sdk.md, "Util"."""

from __future__ import annotations

import os
from types import SimpleNamespace

from . import api, settings
from .card import Cards, Device
from .locks import LockFile
from .rt_types import QDevStatus, QIDList, QStatus

__all__ = ["Util"]

_STATUS = {
    "Ready": QDevStatus.QDS_READY,
    "Initializing": QDevStatus.QDS_INITIALIZING,
}
_MHZ = 10**6
_SERIALIZE = "QAIC_SERIALIZE_DEVICE"


class Util:
    """Questions to the driver. Every answer is (QStatus, value); memory is in MB, frequencies in Hz."""

    def __init__(self) -> None:
        self._locks: dict[int, LockFile] = {}

    def getDeviceIds(self, deviceType: int | None = None) -> tuple[QStatus, QIDList]:
        """The devices the driver lists."""
        return QStatus.QS_SUCCESS, QIDList(device.qid for device in Cards(api.ROOT).devices())

    def getDeviceInfo(self, id: int) -> tuple[QStatus, SimpleNamespace | None]:
        """devStatus, qid, name, pciInfo and, of a Ready device, devData with its resources."""
        device = Cards(api.ROOT).device(id)
        if device is None:
            return QStatus.QS_NODEV, None
        return QStatus.QS_SUCCESS, SimpleNamespace(
            devStatus=_STATUS.get(device.status, QDevStatus.QDS_ERROR),
            qid=device.qid,
            name=device.dev_link,
            pciInfo=device.pci,
            devData=SimpleNamespace(resourceInfo=_resources(device), performanceInfo=_performance()),
        )

    def getResourceInfo(self, id: int) -> tuple[QStatus, SimpleNamespace | None]:
        """Totals and free counts of nsp, dram, vc, mcid and semaphore."""
        device = Cards(api.ROOT).device(id)
        if device is None or not device.ready:
            return QStatus.QS_NODEV, None
        return QStatus.QS_SUCCESS, _resources(device)

    def getPerformanceInfo(self, id: int) -> tuple[QStatus, SimpleNamespace | None]:
        """Frequencies, and the memory's bandwidth in KB/s."""
        device = Cards(api.ROOT).device(id)
        if device is None or not device.ready:
            return QStatus.QS_NODEV, None
        return QStatus.QS_SUCCESS, _performance()

    def getAicVersion(self) -> tuple[QStatus, int, int, str, str]:
        """(status, major, minor, patch, variant)."""
        major, minor, patch = settings.load(api.ROOT).build.split(".")
        return QStatus.QS_SUCCESS, int(major), int(minor), patch, "REL"

    def checkLibraryVersion(self) -> QStatus:
        """Whether the library fits the driver."""
        return QStatus.QS_SUCCESS

    def lockDevice(self, id: int, lock: bool, block: bool) -> QStatus:
        """The advisory lock of a whole device, which only works with QAIC_SERIALIZE_DEVICE=1."""
        if os.environ.get(_SERIALIZE) != "1":
            return QStatus.QS_UNSUPPORTED
        if not lock:
            held = self._locks.pop(id, None)
            if held is not None:
                held.close()
            return QStatus.QS_SUCCESS
        if id in self._locks:
            return QStatus.QS_SUCCESS
        file = LockFile(settings.load(api.ROOT).state / f"device-{id}.lock")
        if block:
            file.lock(0, timeout=float("inf"))
        elif not file.try_lock(0, 1):
            file.close()
            return QStatus.QS_BUSY
        self._locks[id] = file
        return QStatus.QS_SUCCESS


def _resources(device: Device) -> SimpleNamespace:
    return SimpleNamespace(
        nspTotal=device.nsp_total,
        nspFree=device.nsp_free,
        dramTotal=device.dram_total_mb,
        dramFree=device.dram_free_mb,
        vcTotal=device.vc_total,
        vcFree=device.vc_free,
        mcidTotal=device.mcid_total,
        mcidFree=device.mcid_free,
        semTotal=device.semaphore_total,
        semFree=device.semaphore_free,
    )


def _performance() -> SimpleNamespace:
    return SimpleNamespace(
        nspFrequencyHz=825 * _MHZ,
        ddrFrequencyHz=2133 * _MHZ,
        compFrequencyHz=1450 * _MHZ,
        memFrequencyHz=1000 * _MHZ,
        sysFrequencyHz=667 * _MHZ,
        dramBw=0.0,
    )
