"""The compare stage: a card's outputs against the reference, sample by sample.

Per output and sample the cosine and the largest difference; the minimum and the maximum are kept, so that
one bad sample does not hide in a batch. Outputs with one element a sample have no angle: they are judged
by relative error. Cosine does not see a wrong scale, so the ratio of norms is looked at too, as a flag.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from farm.domain.errors import StageFailed
from farm.stages.reference import output_file

#: Below this a one-element reference counts as this large: fp16 arithmetic is no better near zero.
_SMALL = 1e-3
#: Norms further apart than this share are flagged.
_SCALE_TOLERANCE = 0.1


@dataclass
class _Compared:
    cosine_min: float | None = None
    relative_error_max: float | None = None
    max_abs_diff: float | None = None
    flags: list[str] = field(default_factory=list)
    failed: bool = False

    def fail(self, flag: str) -> _Compared:
        self.failed = True
        self.flags.append(flag)
        return self


def compare(
    outputs: Mapping[str, Path],
    reference_dir: Path,
    facts: Mapping[str, Any],
    batch: int,
    seq: int,
    min_cosine: float,
    numerics_only: bool,
) -> dict[str, Any]:
    """Compares raw little-endian output files with a reference's `.npy` files.

    outputs: the card's file for each output name. facts: the export's (declared dtypes and dims). Returns
    {"cosine_min", "max_abs_diff", "accuracy": "pass" | "fail" | "numerics only", "flags", "per_output"}; a
    missing, short or long file, a NaN or an infinity fails whatever the weights. Relative error passes up to
    sqrt(2 (1 - min_cosine)), the distance of two equally long vectors at that cosine. Raises
    StageFailed("host") when the reference itself is not there.
    """
    per_output = {
        port["name"]: _one(port, outputs.get(port["name"]), reference_dir, batch, seq, min_cosine)
        for port in facts["outputs"]
    }
    cosines = [item.cosine_min for item in per_output.values() if item.cosine_min is not None]
    differences = [item.max_abs_diff for item in per_output.values() if item.max_abs_diff is not None]
    flags = [f"{flag}:{name}" for name, item in per_output.items() for flag in item.flags]
    flags += [f"unexpected_output:{name}" for name in sorted(set(outputs) - set(per_output))]
    failed = not per_output or any(item.failed for item in per_output.values())
    return {
        "cosine_min": min(cosines, default=None),
        "max_abs_diff": max(differences, default=None),
        "accuracy": "fail" if failed else "numerics only" if numerics_only else "pass",
        "flags": flags,
        "per_output": {
            name: {
                "cosine_min": item.cosine_min,
                "relative_error_max": item.relative_error_max,
                "max_abs_diff": item.max_abs_diff,
            }
            for name, item in per_output.items()
        },
    }


def _one(
    port: Mapping[str, Any], path: Path | None, reference_dir: Path, batch: int, seq: int, min_cosine: float
) -> _Compared:
    result = _Compared()
    right = _reference(reference_dir / output_file(port["name"]), batch)
    if not _fits(port["dims"], right.shape, batch, seq):
        raise StageFailed(
            "host", f"the reference of {port['name']} has shape {right.shape}, not {port['dims']}"
        )
    if path is None or not path.is_file():
        return result.fail("missing_output")
    dtype = np.dtype(port["dtype"]).newbyteorder("<")
    if path.stat().st_size != right.size * dtype.itemsize:
        return result.fail("wrong_size")
    got = np.fromfile(path, dtype).reshape(right.shape)
    for sample in range(batch):
        _add_sample(result, got[sample].ravel().astype(np.float64), right[sample].ravel().astype(np.float64))
        if result.failed:
            return result
    if result.cosine_min is not None and result.cosine_min < min_cosine:
        result.fail("low_cosine")
    tolerance = math.sqrt(2 * (1 - min_cosine))
    if result.relative_error_max is not None and result.relative_error_max > tolerance:
        result.fail("high_relative_error")
    return result


def _reference(path: Path, batch: int) -> np.ndarray:
    try:
        right: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise StageFailed(
            "host", f"the reference {path.name} cannot be read: {error}; make it again"
        ) from error
    if right.ndim == 0 or right.shape[0] != batch:
        raise StageFailed(
            "host", f"the reference {path.name} holds {right.shape} values, not a batch of {batch}"
        )
    return right


def _fits(dims: list[str | int], shape: tuple[int, ...], batch: int, seq: int) -> bool:
    known = {"batch_size": batch, "sequence_length": seq}
    sizes = [known.get(dim) if isinstance(dim, str) else dim for dim in dims]
    return len(dims) == len(shape) and all(
        want in (None, size) for want, size in zip(sizes, shape, strict=True)
    )


def _add_sample(result: _Compared, got: np.ndarray, right: np.ndarray) -> None:
    if not np.isfinite(right).all():
        result.fail("reference_not_finite")
        return
    if not np.isfinite(got).all():
        result.fail("not_finite")
        return
    difference = float(np.abs(got - right).max(initial=0.0))
    result.max_abs_diff = max(difference, result.max_abs_diff or 0.0)
    if right.size == 1:
        relative = difference / max(abs(float(right[0])), _SMALL)
        result.relative_error_max = max(relative, result.relative_error_max or 0.0)
        return
    cosine, ratio = _angle(got, right)
    result.cosine_min = cosine if result.cosine_min is None else min(cosine, result.cosine_min)
    if abs(ratio - 1) > _SCALE_TOLERANCE and "scale_differs" not in result.flags:
        result.flags.append("scale_differs")


def _angle(got: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Cosine and ratio of norms. Two zero vectors agree; a zero vector agrees with no other."""
    norm_got, norm_right = float(np.linalg.norm(got)), float(np.linalg.norm(right))
    if norm_got == 0.0 or norm_right == 0.0:
        same = norm_got == norm_right
        return (1.0, 1.0) if same else (0.0, 0.0)
    cosine = float(np.dot(got / norm_got, right / norm_right))
    return max(-1.0, min(1.0, cosine)), norm_got / norm_right
