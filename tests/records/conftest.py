"""Records whose clock has begun, as the first tick of a coordinator leaves them."""

from __future__ import annotations

import pytest

from farm.records import Records


@pytest.fixture
def records(records: Records) -> Records:
    """Empty records after one tick."""
    records.fleet.tick("test")
    return records
