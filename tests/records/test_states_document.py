"""docs/states.md tells the transitions that the code knows."""

from __future__ import annotations

import re
from pathlib import Path

from farm.domain.states import FINAL, TRANSITIONS
from farm.records.scripts import SHARED

ROOT = Path(__file__).parents[2]
SCRIPTS = {path.stem: path.read_text() for path in (ROOT / "farm" / "records" / "lua").iterdir()}


def words(cell: str) -> set[str]:
    return set(re.findall(r"\w+", cell))


def rows(heading: str) -> list[tuple[str, str, set[str]]]:
    """From, to and scripts of a table of the document."""
    section = (ROOT / "docs" / "states.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    table = re.findall(r"^\| ([^|]+) \| ([^|]+) \| (`[^|]+) \| ", section, re.M)
    return [(before, after, set(re.findall(r"`(\w+)`", scripts))) for before, after, scripts in table]


def test_every_transition_of_a_stage_is_told_and_no_other() -> None:
    told = set()
    for before, after, scripts in rows("A stage"):
        if scripts == {"retry"}:
            continue
        states = set(TRANSITIONS) - FINAL if before == "any but final" else words(before)
        # "ready, then claimed": the second step is a row of its own.
        told |= {(a, b) for a in states for b in words(after.split(", then")[0]) if b in TRANSITIONS}
    assert told == {(a, b) for a, nexts in TRANSITIONS.items() for b in nexts}


def test_the_states_of_an_artifact_are_those_that_the_scripts_write() -> None:
    written = {"absent"}
    for text in SCRIPTS.values():
        written |= set(re.findall(r"'HSET', key\('a', artifact\), 'state', '(\w+)'", text))
    told = set[str]().union(*(words(before) | words(after) for before, after, _ in rows("An artifact")))
    assert told == written == {"absent", "building", "present", "condemned"}


def test_every_script_that_moves_something_is_told() -> None:
    told = set[str]().union(*(scripts for part in ("A stage", "An artifact") for *_, scripts in rows(part)))
    moving = {name for name, text in SCRIPTS.items() if re.search(r"\b(move|make_ready|forget)\(", text)}
    assert moving - set(SHARED) <= told <= set(SCRIPTS)
