"""`qaicrt` of an emulated SDK root: importing it finds the root's runtime two folders up."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3] / "lib"))
import_module("emulator.api").imported()
for _module in ("emulator.rt_types", "emulator.rt", "emulator.rt_queue", "emulator.rt_util"):
    _found = import_module(_module)
    globals().update({_name: getattr(_found, _name) for _name in _found.__all__})
