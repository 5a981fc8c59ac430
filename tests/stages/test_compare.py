"""The comparison passes what agrees and fails everything that does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farm.domain.errors import StageFailed
from farm.stages.compare import compare
from farm.stages.reference import output_file

BATCH, SEQ = 4, 8
NAMES = ("start_logits", "/pooler/end_logits")


class Outputs:
    """A reference and a card's outputs that agree to fp16, to be spoilt by a test."""

    def __init__(self, folder: Path, arrays: dict[str, np.ndarray]) -> None:
        self.reference = folder / "reference"
        self.reference.mkdir()
        self.paths: dict[str, Path] = {}
        self.ports = []
        for index, (name, values) in enumerate(arrays.items()):
            np.save(self.reference / output_file(name), values)
            self.paths[name] = folder / f"{index}-activation-0-inf-0.bin"
            rounded = values.astype(np.float16).astype(values.dtype)
            self.paths[name].write_bytes(rounded.tobytes())
            dims = ["batch_size", *values.shape[1:]]
            self.ports.append({"name": name, "dtype": values.dtype.name, "dims": dims})

    def write(self, name: str, values: np.ndarray) -> None:
        self.paths[name].write_bytes(values.tobytes())

    def read(self, name: str) -> np.ndarray:
        values: np.ndarray = np.load(self.reference / output_file(name))
        return values

    def compare(self, numerics_only: bool = False, min_cosine: float = 0.99) -> dict[str, Any]:
        facts = {"outputs": self.ports}
        return compare(self.paths, self.reference, facts, BATCH, SEQ, min_cosine, numerics_only)


@pytest.fixture
def outputs(tmp_path: Path) -> Outputs:
    rng = np.random.default_rng(0)
    return Outputs(tmp_path, {name: rng.normal(size=(BATCH, SEQ)).astype(np.float32) for name in NAMES})


def test_fp16_rounding_passes(outputs: Outputs) -> None:
    result = outputs.compare()
    assert result["accuracy"] == "pass"
    assert 0.9999 < result["cosine_min"] <= 1
    assert 0 < result["max_abs_diff"] < 0.01
    assert result["flags"] == []
    assert set(result["per_output"]) == set(NAMES)


def test_random_weights_say_numerics_only_but_do_not_excuse(outputs: Outputs) -> None:
    assert outputs.compare(numerics_only=True)["accuracy"] == "numerics only"
    outputs.paths[NAMES[0]].unlink()
    assert outputs.compare(numerics_only=True)["accuracy"] == "fail"


def test_swapped_outputs_fail(outputs: Outputs) -> None:
    first, second = NAMES
    outputs.paths[first], outputs.paths[second] = outputs.paths[second], outputs.paths[first]
    result = outputs.compare()
    assert result["accuracy"] == "fail"
    assert f"low_cosine:{first}" in result["flags"]


def test_one_bad_sample_does_not_hide_in_the_batch(outputs: Outputs) -> None:
    values = outputs.read(NAMES[0])
    values[2] = -values[2]
    outputs.write(NAMES[0], values)
    result = outputs.compare()
    assert result["accuracy"] == "fail"
    assert result["cosine_min"] == pytest.approx(-1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_fail(outputs: Outputs, bad: float) -> None:
    values = outputs.read(NAMES[1])
    values[3, 1] = bad
    outputs.write(NAMES[1], values)
    result = outputs.compare(min_cosine=-1)
    assert result["accuracy"] == "fail"
    assert result["flags"] == [f"not_finite:{NAMES[1]}"]


@pytest.mark.parametrize("size", [0, 1, BATCH * SEQ * 4 - 4, BATCH * SEQ * 2, BATCH * SEQ * 8])
def test_a_wrong_size_fails(outputs: Outputs, size: int) -> None:
    outputs.paths[NAMES[0]].write_bytes(bytes(size))
    result = outputs.compare(min_cosine=-1)
    assert result["accuracy"] == "fail"
    assert result["flags"] == [f"wrong_size:{NAMES[0]}"]


def test_missing_and_unexpected_outputs(outputs: Outputs) -> None:
    outputs.paths["pooler"] = outputs.paths.pop(NAMES[0])
    result = outputs.compare()
    assert result["accuracy"] == "fail"
    assert result["flags"] == [f"missing_output:{NAMES[0]}", "unexpected_output:pooler"]


def test_a_wrong_scale_is_flagged_though_the_cosine_is_one(outputs: Outputs) -> None:
    outputs.write(NAMES[0], outputs.read(NAMES[0]) * 2)
    result = outputs.compare()
    assert result["cosine_min"] > 0.9999
    assert result["flags"] == [f"scale_differs:{NAMES[0]}"]


def test_zero_vectors(tmp_path: Path) -> None:
    values = np.ones((BATCH, SEQ), np.float32)
    values[1] = 0
    outputs = Outputs(tmp_path, {"logits": values})
    assert outputs.compare()["cosine_min"] == pytest.approx(1)
    outputs.write("logits", np.zeros((BATCH, SEQ), np.float32))
    result = outputs.compare()
    assert result["cosine_min"] == 0
    assert result["accuracy"] == "fail"


def test_one_element_outputs_are_judged_by_relative_error(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path, {"score": np.array([[0.5], [-2.0], [100.0], [0.0]], np.float32)})
    assert outputs.compare()["accuracy"] == "pass"
    assert outputs.compare()["cosine_min"] is None
    outputs.write("score", np.array([[0.5], [-2.0], [150.0], [0.0]], np.float32))
    result = outputs.compare()
    assert result["accuracy"] == "fail"
    assert result["per_output"]["score"]["relative_error_max"] == pytest.approx(0.5)
    outputs.write("score", np.array([[0.5], [2.0], [100.0], [0.0]], np.float32))
    assert outputs.compare()["accuracy"] == "fail", "a wrong sign"


def test_the_declared_dtype_is_honoured(tmp_path: Path) -> None:
    values = np.arange(BATCH * SEQ, dtype=np.int64).reshape(BATCH, SEQ)
    outputs = Outputs(tmp_path, {"ids": values})
    outputs.write("ids", values)
    assert outputs.compare()["max_abs_diff"] == 0
    half = np.ones((BATCH, SEQ), np.float16)
    (tmp_path / "half").mkdir()
    outputs = Outputs(tmp_path / "half", {"half": half})
    assert outputs.compare()["accuracy"] == "pass"


def test_a_missing_or_misshapen_reference_is_the_hosts_fault(outputs: Outputs) -> None:
    np.save(outputs.reference / output_file(NAMES[0]), np.ones((BATCH, SEQ + 1), np.float32))
    with pytest.raises(StageFailed) as caught:
        outputs.compare()
    assert caught.value.kind == "host"
    (outputs.reference / output_file(NAMES[0])).unlink()
    with pytest.raises(StageFailed, match="cannot be read"):
        outputs.compare()
