"""A farm of this host for tests: `farm up --emulate`, commands as a user types them, `farm down`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

#: Longer than any command of the tests takes on two slow cores.
LIMIT_S = 280


@dataclass
class LocalFarm:
    """One FARM_HOME. Commands run in `cwd` with nothing of the developer's settings."""

    home: Path
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        return {**os.environ, "FARM_HOME": str(self.home), **self.env}

    def run(
        self, *args: str, limit_s: float = LIMIT_S, check: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        """`farm ARGS`; fails the test when it exits with another status than `check` (None: any)."""
        done = subprocess.run(
            [sys.executable, "-m", "farm", *args],
            env=self.environment(),
            cwd=self.cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit_s,
        )
        if check is not None and done.returncode != check:
            said = f"{done.stdout}\n{done.stderr}\n{self.tails()}"
            raise AssertionError(f"farm {' '.join(args)} exited {done.returncode}, not {check}\n{said}")
        return done

    def json(self, *args: str, check: int | None = 0) -> Any:
        """What `farm ARGS --json` prints."""
        return json.loads(self.run(*args, "--json", check=check).stdout)

    def wait_for_cards(self, limit_s: float = 60) -> None:
        """Until every card is proved; `farm up --detach` returns with the first."""
        deadline = time.monotonic() + limit_s
        while any(card["health"] != "good" for card in self.json("devices")):
            assert time.monotonic() < deadline, f"{self.json('devices')}\n{self.tails()}"

    def results(self, campaign: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.run("results", campaign, "--format", "json").stdout)
        return found

    def state(self) -> dict[str, Any]:
        """What `farm up` published."""
        found: dict[str, Any] = json.loads((self.home / "up.json").read_text())
        return found

    def processes(self) -> list[psutil.Process]:
        """Every living process of this farm, found by its environment."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get("FARM_HOME") == str(self.home) and process.pid != os.getpid()
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def left_behind(self) -> list[psutil.Process]:
        """Processes of this farm that are not about to end: those still there after a moment."""
        psutil.wait_procs(self.processes(), timeout=3)
        return self.processes()

    def card_events(self, qid: int) -> list[dict[str, Any]]:
        """The emulated card's own log."""
        log = Path(self.state()["sdk_root"]) / "state" / f"card-{qid}.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def tails(self, lines: int = 15) -> str:
        """The ends of the processes' logs, for the message of a failed test."""
        logs: Sequence[Path] = sorted((self.home / "logs").glob("*.log"))
        ends = {log.name: log.read_text(errors="replace").splitlines()[-lines:] for log in logs}
        return "\n".join(line for name, end in ends.items() for line in (f"--- {name}", *end))
