"""The atomic scripts: each Lua file of lua/ behind what they share, one transition a file."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from redis.commands.core import Script
from redis.exceptions import ResponseError

from farm.domain.states import IllegalTransition
from farm.records.connection import Client
from farm.records.keys import attempts

NAMES = (
    "absent", "beat", "build", "cancel", "card", "claim", "condemn", "gone", "health", "leave", "open",
    "overview", "recount", "register", "renew", "repair", "restock", "retry", "ring", "running", "settle",
    "tick",
)  # fmt: skip
#: What every script begins with.
SHARED = ("prelude", "artifacts", "room")


class Scripts:
    """Runs a script by name. An illegal transition raises IllegalTransition with the stage's history."""

    def __init__(self, client: Client) -> None:
        self.client = client
        folder = files("farm.records") / "lua"
        shared = "".join((folder / f"{name}.lua").read_text() for name in SHARED)
        self._scripts: dict[str, Script] = {
            name: client.register_script(shared + (folder / f"{name}.lua").read_text()) for name in NAMES
        }

    def run(self, name: str, *args: str | int | float) -> Any:
        """The script's answer; numbers and strings as Redis returns them."""
        try:
            return self._scripts[name](args=args)
        except ResponseError as error:
            if "ILLEGAL " in str(error):
                stage, now, to = str(error).split("ILLEGAL ", 1)[1].split()[:3]
                ended = [json.loads(raw).get("outcome") for raw in self.client.lrange(attempts(stage), 0, -1)]
                history = (*(outcome for outcome in ended if outcome), now)
                raise IllegalTransition(stage, to, history) from error
            raise
