"""The atomic scripts: each Lua file of lua/ behind the prelude they share, one transition a file."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from redis.commands.core import Script
from redis.exceptions import ResponseError

from farm.records.connection import Client

NAMES = (
    "absent", "beat", "build", "cancel", "card", "claim", "health", "leave", "open",
    "register", "renew", "retry", "ring", "running", "settle", "tick",
)  # fmt: skip


class Scripts:
    """Runs a script by name. An illegal transition raises `Illegal`."""

    def __init__(self, client: Client) -> None:
        self.client = client
        folder = files("farm.records") / "lua"
        prelude = (folder / "prelude.lua").read_text()
        self._scripts: dict[str, Script] = {
            name: client.register_script(prelude + (folder / f"{name}.lua").read_text()) for name in NAMES
        }

    def run(self, name: str, *args: str | int | float) -> Any:
        """The script's answer; numbers and strings as Redis returns them."""
        try:
            return self._scripts[name](args=args)
        except ResponseError as error:
            if "ILLEGAL " in str(error):
                stage, now, to = str(error).split("ILLEGAL ", 1)[1].split()[:3]
                raise Illegal(stage, now, to) from error
            raise


class Illegal(Exception):
    """A script refused a transition that the state machine does not have."""

    def __init__(self, stage: str, now: str, to: str) -> None:
        super().__init__(f"stage {stage} cannot go from {now} to {to}")
        self.stage, self.now, self.to = stage, now, to
