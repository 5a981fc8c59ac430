"""Resources that stay taken for a while after their user has gone, as a busy driver's do."""

from __future__ import annotations

import os
import subprocess
import sys

# Leaves its parent at once, waits for the end of the pipe, which comes when the user exits or lets go, and
# then for the lag itself.
_HOLD = """
import os, sys, time
if os.fork():
    os._exit(0)
os.read(int(sys.argv[1]), 1)
time.sleep(float(sys.argv[2]))
"""


class LagHolder:
    """A small process that shares the lock and outlives its user by `seconds`; it ends by itself."""

    def __init__(self, lock_fd: int, seconds: float) -> None:
        read_end, self._write_end = os.pipe()
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", _HOLD, str(read_end), str(seconds)],
            pass_fds=(lock_fd, read_end),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            check=True,
        )
        os.close(read_end)

    def release(self) -> None:
        """The user lets go: the lag begins. (The death of the user's process has the same effect.)"""
        os.close(self._write_end)
