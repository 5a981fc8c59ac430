"""The records of the farm in Redis: schema, atomic transitions, queries. No other room spells a key."""

from __future__ import annotations

from farm.records.connection import connect
from farm.records.identity import adopt
from farm.records.records import Records, open_records

__all__ = ["Records", "adopt", "connect", "open_records"]
