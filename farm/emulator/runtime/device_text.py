"""A card's record as qaic-util prints it, for both SDK profiles.

Source: docs/sdk.md, "qaic-util": a record begins in column 1, its other lines with one tab, `Name:value`
without a blank after the colon; a card that is not Ready has a truncated record without any `Nsp` line.
"""

from __future__ import annotations

import math
import time

from .card import Device
from .scenario import Scenario
from .settings import Settings

_WARM_UP_S = 8.0  # time constant of temperature and power after load comes or goes
_IDLE_C, _LOAD_C = 38.0, 34.0
_IDLE_W = 17.5


def telemetry(device: Device) -> tuple[float, float]:
    """Temperature (degrees Celsius) and board power (W), which lag behind the share of busy cores."""
    load = 1 - device.nsp_free / device.nsp_total
    age = max(0.0, time.time() - device.changed_at)
    near = 1 - math.exp(-age / _WARM_UP_S)
    share = load * near if load else 0.5 * (1 - near)
    return _IDLE_C + _LOAD_C * share, _IDLE_W + (device.tdp_w * 0.9 - _IDLE_W) * share


def preamble(count: int, setup: Settings) -> list[str]:
    """The lines before the first record."""
    return [
        f"LRT QC_IMAGE_VERSION: LRT.AIC.{setup.build}",
        "LRT IMAGE_VARIANT: LRT.AIC.REL",
        f"Number of devices: {count}",
    ]


def record(device: Device, setup: Settings, scenario: Scenario) -> list[str]:
    """The lines of one card, without line ends."""
    modern = setup.modern
    lines = [
        f"Status:{device.status}",
        f"PCI Address:{device.pci}",
        "PCI Info:Processing accelerators Qualcomm Device a100",
    ]
    if modern:
        lines += [
            "Max Link Speed:16GT/s",
            "Max Link Width:x8",
            "Current Link Speed:16GT/s",
            "Current Link Width:x8",
            f"Dev Link:{device.dev_link} ",
            f"MHI ID:{device.mhi}",
        ]
    if device.ready:
        lines += _identity(device, setup)
        lines += _resources(device, setup, scenario)
        lines += _clocks(setup, scenario)
        lines += [
            "Metadata Version:0.10",
            "NNC Command Protocol Version:8.0",
            f"SBL Image:SBL.AIC.{setup.build}",
            "PVS Image Version:18",
            "NSP Defective PG Mask: 0x0",
            f"Sku Type:{device.sku}",
        ]
    else:
        lines.append("")
    lines.append(f"Board serial:{device.serial}")
    if device.ready and scenario.option("telemetry"):
        temperature, power = telemetry(device)
        lines += [
            f"SoC temperature(degree C):{temperature:.2f}",
            f"Board power(Watts):{power:.2f}",
            f"TDP Cap(Watts):{device.tdp_w:.2f}",
        ]
    if device.ready and modern:
        lines += ["Device Capabilities:HybridBoot+,MDP+"]
    if scenario.option("extra_fields"):
        lines += ["Flux Capacity(GW):1.21", "Reserved Field:"]
    return [f"QID {device.qid}", *(f"\t{line}" if line else "" for line in lines)]


def _identity(device: Device, setup: Settings) -> list[str]:
    build = setup.build
    return [
        "HW Version:2.0.0.0" if setup.modern else "HW Version:0.2.0.0",
        f"HW Serial:{device.hw_serial}",
        f"FW Version:{build}",
        f"FW QC_IMAGE_VERSION:QSM.AIC.{build}",
        "FW OEM_IMAGE_VERSION:",
        "FW IMAGE_VARIANT:AIC100.REL",
        *(["FW Features:"] if setup.modern else []),
        f"NSP Version:{build}",
        f"NSP QC_IMAGE_VERSION:NSP.AIC.{build}",
        "NSP OEM_IMAGE_VERSION:",
        "NSP IMAGE_VARIANT:aic100.nsp.prodQ",
        *([] if setup.modern else ["Compiler Version:0"]),
    ]


def _resources(device: Device, setup: Settings, scenario: Scenario) -> list[str]:
    kilobytes = (scenario.option("dram_unit") or ("MB" if setup.modern else "KB")) == "KB"

    def dram(megabytes: int) -> str:
        return f"{megabytes * 1024} KB" if kilobytes else f"{megabytes} MB"

    bandwidth = (
        ["Last 100ms Average Dram Bw:0.00 KBps"]
        if setup.modern
        else ["Peak Dram Bw:0.0", "Peak Sram Bw:0.0", "Peak PcieBw:0.0"]
    )
    return [
        f"Dram Total:{dram(device.dram_total_mb)}",
        f"Dram Free:{dram(device.dram_free_mb)}",
        "Dram Fragmentation:0.00%",
        f"Vc Total:{device.vc_total}",
        f"Vc Free:{device.vc_free}",
        *(["Pc Total:32", "Pc Reserved:0"] if setup.modern else []),
        f"Nsp Total:{device.nsp_total}",
        f"Nsp Free:{device.nsp_free}",
        f"MCID Total:{device.mcid_total}",
        f"MCID Free:{device.mcid_free}",
        f"Semaphore Total:{device.semaphore_total}",
        f"Semaphore Free:{device.semaphore_free}",
        f"Constants Loaded:{device.networks_loaded}",
        f"Constants In-Use:{device.networks_loaded}",
        f"Networks Loaded:{device.networks_loaded}",
        f"Networks Active:{device.networks_active}",
        *bandwidth,
    ]


def _clocks(setup: Settings, scenario: Scenario) -> list[str]:
    decimals = scenario.option("frequency_decimals")
    shape = "{:.2f}" if (setup.modern if decimals is None else decimals) else "{:.0f}"
    clocks = {"NSP": 825, "DDR": 2133, "COMPNOC": 1450, "MEMNOC": 1000, "SYSNOC": 667}
    return [f"{name} Frequency(Mhz):{shape.format(float(value))}" for name, value in clocks.items()]
