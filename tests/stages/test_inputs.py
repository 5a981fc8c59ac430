"""Inputs are legal for the model, follow the graph, and are the same everywhere."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.domain.errors import StageFailed
from farm.stages.inputs import generate_inputs, input_arrays


def _io(*names: str, **facts: Any) -> dict[str, Any]:
    dims = ["batch_size", "sequence_length"]
    ports = [{"name": name, "dtype": "int64", "dims": dims} for name in names]
    return {"inputs": ports, "vocab_size": 30522, "type_vocab_size": 2, "pad_token_id": 0} | facts


BERT = _io("input_ids", "attention_mask", "token_type_ids", max_positions=512)


def test_files_are_named_and_sized_for_the_runner(tmp_path: Path) -> None:
    files = generate_inputs(BERT, 8, 128, 0, tmp_path)
    assert [(f.name, f.path.name, f.dtype, f.dims) for f in files] == [
        (name, f"{name}_8x128.raw", "int64", (8, 128))
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    values = {f.name: np.fromfile(f.path, "<i8").reshape(8, 128) for f in files}
    assert values["input_ids"].min() >= 1000
    assert values["input_ids"].max() < 30522
    assert len(np.unique(values["input_ids"], axis=0)) == 8
    assert (values["attention_mask"] == 1).all()
    assert (values["token_type_ids"][:, :64] == 0).all()
    assert (values["token_type_ids"][:, 64:] == 1).all()


@given(
    vocab=st.integers(1, 300_000),
    pad=st.integers(0, 300_000),
    batch=st.integers(1, 4),
    seq=st.integers(1, 40),
)
def test_ids_stay_in_the_vocabulary_and_off_the_pad(vocab: int, pad: int, batch: int, seq: int) -> None:
    ids = input_arrays(_io("input_ids", vocab_size=vocab, pad_token_id=pad), batch, seq, 0)["input_ids"]
    assert ids.shape == (batch, seq)
    assert ids.min() >= 0
    assert ids.max() < vocab
    if vocab > 2:
        assert not (ids == pad).any()


def test_another_process_makes_the_same_bytes(tmp_path: Path) -> None:
    code = (
        "import json, sys; from pathlib import Path; from farm.stages.inputs import generate_inputs; "
        "generate_inputs(json.loads(sys.argv[1]), 2, 16, 7, Path(sys.argv[2]))"
    )
    subprocess.run(
        [sys.executable, "-c", code, json.dumps(BERT), str(tmp_path / "there")], check=True, timeout=60
    )
    for file in generate_inputs(BERT, 2, 16, 7, tmp_path / "here"):
        assert file.path.read_bytes() == (tmp_path / "there" / file.path.name).read_bytes()
    # The stream itself is a promise: inputs of a result can be made again years later.
    ids = (tmp_path / "here" / "input_ids_2x16.raw").read_bytes()
    assert hashlib.sha256(ids).hexdigest()[:16] == "fef0712baa1fbdd9"


def test_the_seed_and_the_shape_change_the_ids() -> None:
    def ids(batch: int, seed: int) -> list[int]:
        return list(input_arrays(BERT, batch, 16, seed)["input_ids"][0])

    assert ids(2, 0) != ids(2, 1)
    assert ids(2, 0) != ids(4, 0)
    assert ids(2, 0) == ids(2, 0)


def test_one_segment_models_get_segment_zero_only() -> None:
    io = _io("token_type_ids", type_vocab_size=1)
    assert (input_arrays(io, 2, 8, 0)["token_type_ids"] == 0).all()


def test_names_order_and_dtypes_are_the_graphs() -> None:
    io = _io("attention_mask", "position_ids", "input_ids")
    io["inputs"][2]["dtype"] = "int32"
    arrays = input_arrays(io, 1, 4, 0)
    assert list(arrays) == ["attention_mask", "position_ids", "input_ids"]
    assert arrays["input_ids"].dtype == np.dtype("<i4")
    assert arrays["position_ids"].tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("io", "says"),
    [
        (_io("input_ids", max_positions=128), "sequence length 129 is more than the model's 128 positions"),
        (_io("pixel_values"), "pixel_values"),
        (
            _io("input_ids") | {"inputs": [{"name": "input_ids", "dtype": "int64", "dims": [4, "s"]}]},
            "fixed at 4",
        ),
        (
            _io("input_ids") | {"inputs": [{"name": "input_ids", "dtype": "int64", "dims": ["b"]}]},
            "1 dimensions",
        ),
        (
            _io("input_ids") | {"inputs": [{"name": "input_ids", "dtype": "float32", "dims": ["b", "s"]}]},
            "float32",
        ),
    ],
)
def test_what_cannot_be_filled_is_refused(io: dict[str, Any], says: str) -> None:
    with pytest.raises(StageFailed, match=says) as caught:
        input_arrays(io, 2, 129, 0)
    assert caught.value.kind == "input"
