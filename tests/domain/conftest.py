"""Fixtures of the domain's tests: the shipped table and catalogue."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.data import LOOKUP_TABLE
from farm.domain.catalogue import Catalogue
from farm.domain.lut import LookupTable, read_lut


@pytest.fixture(scope="session")
def shipped_table() -> Path:
    return LOOKUP_TABLE


@pytest.fixture(scope="session")
def table() -> LookupTable:
    return read_lut(LOOKUP_TABLE)


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return Catalogue.load()
