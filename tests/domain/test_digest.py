"""Digests are the same everywhere."""

from __future__ import annotations

import subprocess
import sys

import pytest

from farm.domain.digest import canonical_json, digest


def test_key_order_and_tuples_do_not_matter() -> None:
    assert digest({"b": (1, 2), "a": "ü"}) == digest({"a": "ü", "b": [1, 2]})


def test_values_that_differ_have_digests_that_differ() -> None:
    values = [None, 0, "", "0", [], {}, [0], {"a": None}, False, 0.5]
    assert len({digest(value) for value in values}) == len(values)


def test_length() -> None:
    assert digest("x", 12) == digest("x")[:12]
    assert len(digest("x")) == 64


def test_not_a_number_has_no_digest() -> None:
    with pytest.raises(ValueError, match="JSON"):
        digest(float("nan"))


def test_another_process_finds_the_same() -> None:
    code = "from farm.domain.digest import digest; print(digest({'z': 1, 'a': ['é', 2.5, None]}))"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.strip() == digest({"a": ["é", 2.5, None], "z": 1})
    assert canonical_json({"z": 1, "a": "é"}) == '{"a":"\\u00e9","z":1}'
