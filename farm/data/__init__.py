"""Data the package carries: the look-up table it ships and the facts of the models it knows."""

from __future__ import annotations

import csv
from pathlib import Path

_HERE = Path(__file__).resolve().parent

#: The shipped look-up table, in the layout of the SDK's own (docs/sdk.md).
LOOKUP_TABLE = _HERE / "lut_nlp_models.csv"
#: The catalogue: one row a model, the facts of its configuration; a blank cell means "none" or "not known".
MODELS = _HERE / "models.csv"


def model_rows() -> list[dict[str, str]]:
    """The rows of the catalogue by column name, in file order."""
    with MODELS.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
