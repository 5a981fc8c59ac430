"""Whether a folder holds a whole compiled program (QPC).

Source: the open runtime's QAicQpc.h (docs/sdk.md, "The QPC container").
"""

from __future__ import annotations

import struct
from pathlib import Path

PROGRAM = "programqpc.bin"
MAGIC = 0x00A1CD7C
#: magic u32, major u8, minor u8, compression u16, total size u64; little endian.
_HEADER = struct.Struct("<IBBHQ")


class BadQpc(Exception):
    """The folder holds no whole program; the message says why."""


def check_qpc(folder: Path) -> int:
    """The size of the folder's program in bytes. Raises BadQpc."""
    program = folder / PROGRAM
    try:
        size = program.stat().st_size
        with program.open("rb") as file:
            head = file.read(_HEADER.size)
    except OSError as error:
        raise BadQpc(f"{program}: {error.strerror}") from error
    if len(head) < _HEADER.size:
        raise BadQpc(f"{program}: only {size} bytes")
    magic, _major, _minor, _compression, total = _HEADER.unpack(head)
    if magic != MAGIC:
        raise BadQpc(f"{program}: not a compiled program (magic {magic:#010x})")
    if total != size:
        raise BadQpc(f"{program}: {size} bytes, its header says {total}")
    return size
