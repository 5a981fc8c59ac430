"""`qaic` of an emulated SDK root: importing it finds the root's runtime beside it."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[4] / "lib"))
import_module("emulator.api").imported()
Session = import_module("emulator.session").Session

__all__ = ["Session"]
