"""Every test that a document cites exists, so that the tables of defects and faults cannot rot."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
DOCUMENTS = [TESTS.parent / "docs" / name for name in ("sdk.md", "faults.md")]
CITED = sorted(
    {cited for doc in DOCUMENTS for cited in re.findall(r"`([\w/]+\.py)::([\w:]+)`", doc.read_text())}
)


def names_in(path: Path) -> set[str]:
    """The functions of a module and, as Class::function, of its classes."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
    return found


@pytest.mark.parametrize(("file", "name"), CITED, ids=["::".join(cited) for cited in CITED])
def test_it_exists(file: str, name: str) -> None:
    assert name in names_in(TESTS / file)


def test_the_tables_are_read() -> None:
    assert len(CITED) > 150
