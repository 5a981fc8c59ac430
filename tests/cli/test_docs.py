"""The documents say what the commands take."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from farm.cli.main import COMMANDS
from tests.cli.parsing import parse

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/user-guide.md")


def examples(page: str) -> list[list[str]]:
    """The words after `farm` of every example in a page's code blocks."""
    found = []
    for line in (ROOT / page).read_text().splitlines():
        if re.match(r"    (\w+=\S+ )*farm ", line):
            for part in re.split(r"&&|&|>", line.split(" #")[0]):
                words = [word for word in shlex.split(part) if "=" not in word or word.startswith("-")]
                if words[:1] == ["farm"]:
                    found.append(words[1:])
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_example_is_a_command_line(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("models.txt", "my_lut.csv"):
        (tmp_path / name).touch()
    assert examples(page)
    for words in examples(page):
        parse(words)


def test_the_guide_has_an_example_of_every_command() -> None:
    shown = {word for words in examples("docs/user-guide.md") for word in words[:3]}
    assert set(COMMANDS) <= shown


def test_the_command_reference_is_up_to_date() -> None:
    words = [sys.executable, str(ROOT / "docs/make_reference.py")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == (ROOT / "docs/commands.md").read_text(), "run make docs"


def test_links_between_documents_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text()):
            assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"
