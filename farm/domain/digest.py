"""Digests of JSON values: the same value gives the same digest in every process and on every host."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> str:
    """The one spelling of a JSON value: sorted keys, no blanks, ASCII. NaN and infinity raise ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any, length: int = 64) -> str:
    """The first `length` hexadecimal digits of the SHA-256 of a JSON value. Tuples count as lists."""
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()[:length]
