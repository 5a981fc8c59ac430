"""The emulated SDK: a folder that stands where `/opt/qti-aic` stands, for hosts without a card."""

from __future__ import annotations

from farm.emulator.init import BadRoot, write_root

__all__ = ["BadRoot", "write_root"]
