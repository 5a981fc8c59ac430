"""Outputs made wrong on purpose, as the scenario's output-* faults ask."""

from __future__ import annotations

import numpy as np

from .program import Array
from .scenario import Scenario


def outputs(values: dict[str, Array], scenario: Scenario, tool: str, qid: int) -> dict[str, Array]:
    """The outputs of one inference, spoilt where a fault of `tool` is to happen now."""
    spoilt = dict(values)
    if scenario.fault(tool, "output-nan", qid=qid) is not None:
        spoilt = {
            name: np.full_like(value, np.nan) for name, value in spoilt.items() if value.dtype.kind == "f"
        }
        spoilt = {**values, **spoilt}
    if scenario.fault(tool, "output-wrong", qid=qid) is not None:
        rng = np.random.default_rng(0)
        spoilt = {name: rng.normal(size=value.shape).astype(value.dtype) for name, value in spoilt.items()}
    if scenario.fault(tool, "output-swapped", qid=qid) is not None:
        names = list(spoilt)
        spoilt = dict(zip(names, [spoilt[name] for name in names[1:] + names[:1]], strict=True))
    bad = scenario.fault(tool, "output-bad-sample", qid=qid)
    if bad is not None:
        for name, value in spoilt.items():
            spoilt[name] = value.copy()
            spoilt[name][int(bad.get("sample", -1))] *= -1
    return spoilt
