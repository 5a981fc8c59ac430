"""What a root was made as: its SDK profile, its timing and its cards (emulator.json)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

MARKER = "emulator.json"
#: Set by the caller of a tool; overrides the root's own timing.
TIMING_VARIABLE = "AIC_EMULATOR_TIMING"

SDK_PROFILES = ("1.12", "1.21")
TIMINGS = ("measured", "modelled")

#: Full version of the Apps and Platform SDK that each profile stands for.
SDK_BUILDS = {"1.12": "1.12.2", "1.21": "1.21.6"}


class Settings:
    """The contents of a root's emulator.json.

    `cards` holds the static facts of each card, in slot order: qid, serial, hw_serial, pci, sku, nsp_total,
    dram_mb, tdp_w, mhi, dev_link.
    """

    def __init__(self, root: Path, sdk: str, timing: str, cards: list[dict[str, Any]]) -> None:
        self.root = root
        self.sdk = sdk
        self.timing = timing
        self.cards = cards

    @property
    def modern(self) -> bool:
        """Whether the profile has what came after SDK 1.17: qaic-compile, batch JSON, JSON device list."""
        return self.sdk != "1.12"

    @property
    def build(self) -> str:
        """The SDK's full version, such as 1.21.6."""
        return SDK_BUILDS[self.sdk]

    @property
    def state(self) -> Path:
        """The folder of run-time state that the tools of this root share."""
        return self.root / "state"


def load(root: Path) -> Settings:
    """Read emulator.json below `root`; AIC_EMULATOR_TIMING overrides its timing."""
    marker = json.loads((root / MARKER).read_text())
    timing = os.environ.get(TIMING_VARIABLE) or marker["timing"]
    if timing not in TIMINGS:
        raise ValueError(f"{TIMING_VARIABLE}={timing}: must be one of {', '.join(TIMINGS)}")
    return Settings(root, marker["sdk"], timing, marker["cards"])
