"""First on a process's PYTHONPATH: its time of day is off by the seconds in the file SHIFTED_CLOCK names."""

import os
import time
from pathlib import Path

_real = time.time
_shift = Path(os.environ["SHIFTED_CLOCK"])


def _shifted() -> float:
    return _real() + float(_shift.read_text())


time.time = _shifted
