"""A farm in the background: start it, wait until it is ready, stop it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from farm.domain.errors import FarmError, RecordsLost, Unreachable
from farm.local.home import Home, is_alive
from farm.records import Records, open_records

#: A stopping worker may finish what it runs within the grace period, then hands it back.
WORKER_STOP_S = 15.0 + float(os.environ.get("FARM_GRACE_S") or 30.0)
#: How long `--detach` waits for a coordinator, a CPU worker and a good card.
READY_S = 120.0


def start(home: Home, argv: Sequence[str], env: Mapping[str, str], tell: Callable[[str], None]) -> int:
    """Start the supervisor `argv`; 0 once a coordinator, a CPU worker and a good card are there."""
    home.logs.mkdir(parents=True, exist_ok=True)
    log = home.logs / "up.log"
    with log.open("ab") as stream:
        process = subprocess.Popen(
            argv, env=env, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
        )
    deadline = time.monotonic() + READY_S
    missing = "its Redis"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise FarmError(f"the farm did not start (exit {process.returncode}): see {log}")
        state = home.read_state()
        if state is not None:
            try:
                missing = _missing(open_records(state["redis_url"], home=home.root, retries=0), state["pid"])
            except RecordsLost as error:
                raise RecordsLost(f"up, but it takes no work: {error}") from error
            except (Unreachable, psutil.NoSuchProcess):
                missing = "its Redis"
            if not missing:
                tell(f"up: {state['cards']} cards; `farm status` watches, `farm down` stops it")
                return 0
        time.sleep(0.1)
    raise FarmError(f"no {missing} within {READY_S:.0f} s: see {home.logs}; the farm goes on starting")


def _missing(records: Records, supervisor: int) -> str:
    """What a ready farm still lacks, '' when it is ready.

    Only what its own supervisor started counts: processes of an earlier farm may still be ending.
    """
    own = {process.pid for process in psutil.Process(supervisor).children(recursive=True)}
    if not own & {int(name.split(":")[1]) for name in records.fleet.coordinators()}:
        return "coordinator"
    workers = [worker for worker in records.fleet.workers() if int(worker["pid"]) in own]
    if not any("export" in worker["queues"] for worker in workers):
        return "CPU worker"
    good = {card["queue"] for card in records.cards() if card["health"] == "good"}
    if not any(worker["card"] in good for worker in workers):
        return "good card"
    return ""


def down(home_root: Path, say: Callable[[str], None] | None = None) -> int:
    """Stop the farm below `home_root`; running stages finish within their grace period or are handed back."""
    tell = say or (lambda line: print(f"farm: {line}", file=sys.stderr, flush=True))
    state = Home(home_root).read_state()
    if state is None:
        tell("nothing is up")
        return 0
    os.kill(state["pid"], signal.SIGTERM)
    deadline = time.monotonic() + WORKER_STOP_S + 30
    while is_alive(state["pid"], state["created"]):
        if time.monotonic() > deadline:
            raise FarmError(f"the farm (pid {state['pid']}) is still stopping; see {Home(home_root).logs}")
        time.sleep(0.05)
    tell("down")
    return 0
