"""The folder of a local farm (FARM_HOME): where each thing is kept, and how its Redis is found."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from farm.worker.places import Places


@dataclass(frozen=True)
class Home:
    """Paths below the farm's folder."""

    root: Path

    @property
    def state(self) -> Path:
        """What `farm up` tells the other commands: the supervisor's pid and the URLs, mode 0600."""
        return self.root / "up.json"

    @property
    def lock(self) -> Path:
        """Locked by the supervisor for as long as it lives: one farm a folder."""
        return self.root / "up.lock"

    @property
    def redis(self) -> Path:
        """Data and sockets of the embedded Redis servers."""
        return self.root / "redis"

    @property
    def logs(self) -> Path:
        """Logs of the farm's own processes."""
        return Places(self.root).process_logs

    @property
    def emulated_sdk(self) -> Path:
        """The emulated SDK root that `farm up --emulate` makes."""
        return self.root / "emulated-sdk"

    def read_state(self) -> dict[str, Any] | None:
        """The running farm's state, None when no supervisor is alive here or it is another user's."""
        try:
            state: dict[str, Any] = json.loads(self.state.read_text())
        except (FileNotFoundError, PermissionError, ValueError):
            return None
        return state if is_alive(state["pid"], state["created"]) else None

    def write_state(self, state: dict[str, Any]) -> None:
        """Publish the state: whole or not at all, readable by this user only."""
        aside = self.state.with_suffix(".tmp")
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w") as stream:
            json.dump(state, stream)
        aside.rename(self.state)


def is_alive(pid: int, created: float) -> bool:
    """Whether the process of that pid and start time runs; one that only waits to be reaped does not."""
    try:
        process = psutil.Process(pid)
        return process.create_time() == created and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def discover_url(home: Path) -> str | None:
    """The records' URL of the farm that is up below `home`, None where none is."""
    state = Home(home).read_state()
    return state["redis_url"] if state else None
