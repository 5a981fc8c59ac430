"""Which fault is to happen now: the rules of a JSON scenario, counted across processes.

    {"options": {"dram_unit": "KB"},
     "cards": [{"qid": 3, "nsp_total": 16}],
     "rules": [{"tool": "qaic-runner", "fault": "hang", "qid": 3, "nth": 2},
               {"tool": "compiler", "fault": "fail", "times": 1, "text": "no"}]}

A rule fits a call of its tool (on its card, where it names a `qid`). Of the calls it fits it acts on the
`nth` (a number or a list, from 1), or on those behind the first `after`, and on at most `times`; else on all.
The scenario is the file that AIC_EMULATOR_SCENARIO names, else `scenario.json` of the root, else all is well.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from .faults import GROUPS, OPTIONS, BadScenario, check
from .locks import LockFile

VARIABLE = "AIC_EMULATOR_SCENARIO"
FILE = "scenario.json"


def parse(path: Path) -> dict[str, Any]:
    """The scenario in the file `path`. Raises BadScenario when it cannot be read or is malformed."""
    try:
        return check(json.loads(path.read_text()), str(path))
    except (OSError, ValueError) as error:
        if isinstance(error, BadScenario):
            raise
        raise BadScenario(f"{path}: {error}") from error


class Scenario:
    """The rules and choices in force for one root."""

    def __init__(self, contents: dict[str, Any], state: Path, identity: str) -> None:
        self.cards: list[dict[str, Any]] = contents.get("cards", [])
        self._options: dict[str, Any] = contents.get("options", {})
        self._rules: list[dict[str, Any]] = contents.get("rules", [])
        self._state = state
        self._identity = identity

    def option(self, name: str) -> Any:
        """The choice for `name` (faults.OPTIONS), else its default (None: as the SDK profile has it)."""
        return self._options.get(name, OPTIONS[name][0])

    def fault(self, tool: str, name: str, *, qid: int | None = None) -> dict[str, Any] | None:
        """The rule that makes `name` happen at this call, or None. Every rule that fits counts the call."""
        chosen = None
        for index, rule in enumerate(self._rules):
            if rule["fault"] != name or rule["tool"] not in (tool, GROUPS.get(tool)):
                continue
            if "qid" in rule and rule["qid"] != qid:
                continue
            if self._acts(index, rule) and chosen is None:
                chosen = rule
        return chosen

    def _acts(self, index: int, rule: dict[str, Any]) -> bool:
        if not {"nth", "after", "times"} & set(rule):
            return True
        with LockFile(self._state / "scenario.lock") as lock:
            lock.lock(0)
            counts_file = self._state / "scenario-counts.json"
            try:
                counts = json.loads(counts_file.read_text())
            except FileNotFoundError:
                counts = {}
            key = f"{self._identity}#{index}"
            seen, acted = counts.get(key, (0, 0))
            seen += 1
            nth = rule.get("nth")
            acts = (
                (nth is None or seen in (nth if isinstance(nth, list) else [nth]))
                and seen > rule.get("after", 0)
                and acted < rule.get("times", acted + 1)
            )
            counts[key] = (seen, acted + acts)
            scratch = counts_file.with_suffix(".new")
            scratch.write_text(json.dumps(counts))
            scratch.replace(counts_file)
        return acts


def load(root: Path) -> Scenario:
    """The scenario in force for the root. Raises BadScenario."""
    named = os.environ.get(VARIABLE)
    path = Path(named) if named else root / FILE
    state = root / "state"
    if not named and not path.exists():
        return Scenario({}, state, "none")
    return Scenario(parse(path), state, str(path.resolve()))
