"""Faults that any tool can have, made real: time passing, memory held, signals ignored, sudden death."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any, NoReturn

from .scenario import Scenario

_MB = 2**20
_PAGE = 4096
FAILURE = 255


def at_start(scenario: Scenario, tool: str, qid: int | None = None) -> float:
    """What a call meets first: a deaf process, a pause, an endless one.

    Returns how many times longer than usual the call's work is to take.
    """
    if scenario.fault(tool, "ignore-sigterm", qid=qid) is not None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    slow = scenario.fault(tool, "slow", qid=qid) or {}
    time.sleep(float(slow.get("seconds", 0.0)))
    if scenario.fault(tool, "hang", qid=qid) is not None:
        forever()
    return float(slow.get("factor", 1.0))


def forever() -> NoReturn:
    """Say nothing and never return."""
    while True:
        time.sleep(3600)


def death(scenario: Scenario, tool: str, qid: int | None = None) -> int | None:
    """Die by a signal, or give the status to end with, as the scenario wants; None when all is well."""
    killed = scenario.fault(tool, "killed", qid=qid)
    if killed is not None:
        sys.stdout.flush()
        number = int(killed.get("signal", signal.SIGKILL))
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        forever()
    failed = scenario.fault(tool, "fail", qid=qid)
    if failed is None:
        return None
    sys.stdout.flush()
    print(failed.get("text", f"{tool}: internal error"), file=sys.stderr)
    return int(failed.get("status", FAILURE))


def hold_memory(rule: dict[str, Any]) -> None:
    """Take and touch the memory the rule asks for; keep it for its `seconds`, else for ever."""
    held = bytearray(int(rule.get("mb", 1024)) * _MB)
    for page in range(0, len(held), _PAGE):
        held[page] = 1
    if "seconds" not in rule:
        forever()
    time.sleep(float(rule["seconds"]))
