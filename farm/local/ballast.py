"""Room on the disk of the embedded Redis. With appendfsync always it exits when it cannot write.

A ballast file beside its append-only file is given up when the disk is nearly full. Redis, which its
supervisor starts again, then has room for what runs; nothing new is started until the ballast has room again.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
from redis.exceptions import RedisError

from farm.domain.errors import FarmError
from farm.domain.sizes import MIB, show_size
from farm.records import Records

log = logging.getLogger(__name__)

#: Hours of a farm that starts nothing new; a smaller disk gives an eighth.
MOST = 64 * MIB
LOOK_S = 0.5


class Ballast:
    """The file, there as long as the disk of `folder` has room; the next supervisor finds it as it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "ballast"
        self.size = min(MOST, psutil.disk_usage(str(folder)).total // 8)

    def look(self) -> str | None:
        """Give the ballast up or take it on again; why nothing new is to start, None where all is well."""
        free = psutil.disk_usage(str(self.folder)).free
        if self.file.exists():
            if free >= self.size // 2:
                return None
            self._give_up()
        elif free >= 2 * self.size and self._take_on():
            return None
        return (
            f"the disk of Redis at {self.folder} is nearly full:"
            f" work goes on when {show_size(2 * self.size)} of it are free"
        )

    def _give_up(self) -> None:
        self.file.unlink()
        for left in self.folder.glob("temp-*.aof"):
            # A rewrite whose Redis exited; its name ends with the pid of who wrote it.
            writer = re.search(r"(\d+)\.aof$", left.name)
            if writer and not psutil.pid_exists(int(writer[1])):
                left.unlink(missing_ok=True)

    def _take_on(self) -> bool:
        fd = os.open(self.file, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(fd, 0, self.size)
        except OSError:
            self.file.unlink()
            return False
        finally:
            os.close(fd)
        return True


class DiskWatch:
    """Looks at the disk beside the supervisor, and tells the records whether something new may be started."""

    def __init__(self, ballast: Ballast, records: Callable[[], Records]) -> None:
        self._ballast = ballast
        self._open = records
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="farm-disk", daemon=True)

    def start(self) -> None:
        """Look from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        told: str | None = ""
        while not self._stop.wait(LOOK_S):
            why = self._ballast.look()
            if why != told and self._tell(why):
                told = why

    def _tell(self, why: str | None) -> bool:
        try:
            records = self._open()
            records.fleet.halt(why)
            records.client.close()
        except (FarmError, RedisError):
            return False
        if why:
            log.warning("nothing new is started: %s", why)
        return True
