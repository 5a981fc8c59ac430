"""The runner's input description, aic_batch_io.json.

Source: Cloud AI SDK's encoder sample and docs (docs/sdk.md, "aic_batch_io.json").
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class InputBinding:
    """One network input and the raw file (C order, little endian) that feeds it."""

    name: str
    path: Path
    element_bytes: int
    dims: tuple[int, ...]


def write_batch_io(target: Path, inputs: Sequence[InputBinding]) -> None:
    """Write the description of one inference; the files are named relative to the description's folder."""
    files = [
        {
            "path": binding.path.relative_to(target.parent).as_posix(),
            "io-direction": "in",
            "elem-size": binding.element_bytes,
            "map-to": binding.name,
            "dims": list(binding.dims),
        }
        for binding in inputs
    ]
    target.write_text(json.dumps({"IO-files": [files]}, indent=1) + "\n")
