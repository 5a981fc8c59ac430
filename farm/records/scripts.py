"""The atomic scripts: each Lua file of lua/ behind what they share, one transition a file."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from redis.commands.core import Script
from redis.exceptions import ResponseError

from farm.domain.errors import Unreachable
from farm.domain.states import IllegalTransition
from farm.records import keys
from farm.records.connection import Client
from farm.records.memory import FIELDS, Memory

NAMES = (
    "absent", "beat", "build", "cancel", "card", "claim", "condemn", "gone", "halt", "health", "leave",
    "open", "overview", "recount", "refresh", "register", "renew", "repair", "restock", "retry", "ring",
    "running", "settle", "tick", "unring", "upgrade",
)  # fmt: skip
#: What a Redis answers that takes no writes for now: its disk or memory is full, or it is a replica.
REFUSES = ("MISCONF", "OOM command", "READONLY", "NOREPLICAS")
#: What every script begins with.
SHARED = ("prelude", "fence", "artifacts", "room")


class Scripts:
    """Runs a script by name, on the records that `memory` knows and no others (lua/fence.lua)."""

    def __init__(self, client: Client, memory: Memory) -> None:
        self.client = client
        self.memory = memory
        folder = files("farm.records") / "lua"
        shared = "".join((folder / f"{name}.lua").read_text() for name in SHARED)
        self._scripts: dict[str, Script] = {
            name: client.register_script(shared + (folder / f"{name}.lua").read_text()) for name in NAMES
        }

    def run(self, name: str, *args: str | int | float) -> Any:
        """The script's answer; numbers and strings as Redis returns them.

        Raises RecordsLost, Unreachable where Redis takes no writes, and IllegalTransition with the stage's
        history.
        """
        try:
            return self._run(name, args)
        except ResponseError as error:
            if "RECORDS LOST" not in str(error):
                raise
            # Raises, unless these records were adopted since this process last looked.
            self.memory.verify(lambda: self.client.hmget(keys.META, *FIELDS))
        return self._run(name, args)

    def _run(self, name: str, args: tuple[str | int | float, ...]) -> Any:
        seen = self.memory.seen
        assert seen is not None, "Records looked before the first script"
        try:
            return self._scripts[name](args=[seen.farm, seen.epoch, seen.clock, *args])
        except ResponseError as error:
            if any(word in str(error) for word in REFUSES):
                raise Unreachable(f"Redis takes no writes: {error}") from error
            if "ILLEGAL " not in str(error):
                raise
            stage, now, to = str(error).split("ILLEGAL ", 1)[1].split()[:3]
            ended = [
                json.loads(raw).get("outcome") for raw in self.client.lrange(keys.attempts(stage), 0, -1)
            ]
            history = (*(outcome for outcome in ended if outcome), now)
            raise IllegalTransition(stage, to, history) from error
