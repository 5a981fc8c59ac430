"""Sizes as people write them: 30G, 512M, 1.5T."""

from __future__ import annotations

import re

from farm.domain.errors import BadInput

MIB = 1 << 20
GIB = 1 << 30

_UNITS = {"": 1, "K": 1 << 10, "M": MIB, "G": GIB, "T": 1 << 40}


def parse_size(text: str, what: str) -> int:
    """Bytes of a size such as `30G`, `512MiB` or `1.5T` (binary units). Raises BadInput naming `what`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    size = int(float(found[1]) * _UNITS[found[2].upper()]) if found else 0
    if size < MIB:
        raise BadInput(f"{what} {text!r}: not a size of 1M or more; write it as 30G, 512M or 1.5T")
    return size


def show_size(size: float) -> str:
    """`7.3 GiB`, or MiB below one."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"
