"""Sizes as people write them: 30G, 512M, 1.5T."""

from __future__ import annotations

import re

from farm.domain.errors import BadInput
from farm.domain.names import show

MIB = 1 << 20
GIB = 1 << 30

_UNITS = {"": 1, "K": 1 << 10, "M": MIB, "G": GIB, "T": 1 << 40}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE | re.ASCII)


def parse_size(text: str, what: str) -> int:
    """Bytes of a size such as `30G`, `512MiB` or `1.5T` (binary units). Raises BadInput naming `what`."""
    found = _SIZE.fullmatch(text.strip())
    size = int(float(found[1]) * _UNITS[found[2].upper()]) if found else 0
    if size < MIB:
        raise BadInput(f"{what} {show(text)}: not a size of 1M or more; write it as 30G, 512M or 1.5T")
    return size


def show_size(size: float) -> str:
    """`7.3 GiB`, or MiB below one."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"
