"""Seeded inputs for an encoder's graph: the same bytes in every process and on every host.

Names and dtypes come from the graph, never from an assumed order. Ids are drawn from the middle of the
vocabulary, so that no padding, mask or other special token moves positions or masks itself; every row is
full (the attention mask is all ones), as in the SDK's encoder sample, so a batch costs what it says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from farm.domain.errors import StageFailed

#: Ids below this are special or unused tokens in the BERT family's vocabularies.
_FIRST_WORD = 1000
#: RoBERTa-like vocabularies keep the mask token, and some have added tokens, at the end.
_LAST_SPECIAL = 8
#: Ids stay below this where neither the configuration nor the graph tells the vocabulary's size.
_UNKNOWN_VOCABULARY = 1000


@dataclass(frozen=True)
class InputFile:
    """One raw input file: C order, little endian; dims are (batch, sequence)."""

    name: str
    path: Path
    dtype: str
    dims: tuple[int, int]


def generate_inputs(io: Mapping[str, Any], batch: int, seq: int, seed: int, out: Path) -> list[InputFile]:
    """Writes `<name>_<batch>x<seq>.raw` in `out` for each input of the export facts `io`, in their order.

    Raises StageFailed("input") for a sequence longer than the model's positions, a fixed dimension that
    does not fit, or an input the farm cannot fill.
    """
    arrays = input_arrays(io, batch, seq, seed)
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for name, values in arrays.items():
        path = out / f"{name}_{batch}x{seq}.raw"
        path.write_bytes(values.tobytes())
        files.append(InputFile(name, path, values.dtype.name, (batch, seq)))
    return files


def input_arrays(io: Mapping[str, Any], batch: int, seq: int, seed: int) -> dict[str, np.ndarray]:
    """The inputs themselves, by name, little endian and [batch, seq]. Errors as `generate_inputs`."""
    longest = io.get("max_positions")
    if longest is not None and seq > longest:
        raise StageFailed("input", f"sequence length {seq} is more than the model's {longest} positions")
    arrays = {}
    for port in io["inputs"]:
        name, dtype = port["name"], port["dtype"]
        _check_dims(name, port["dims"], batch, seq)
        if dtype not in ("int64", "int32"):
            raise StageFailed("input", f"input {name} is {dtype}; the farm fills integer inputs only")
        arrays[name] = _values(name, io, batch, seq, seed).astype(np.dtype(dtype).newbyteorder("<"))
    return arrays


def _values(name: str, io: Mapping[str, Any], batch: int, seq: int, seed: int) -> np.ndarray:
    shape = (batch, seq)
    if name == "input_ids":
        return _ids(io, shape, _stream(name, batch, seq, seed))
    if name == "attention_mask":
        return np.ones(shape, np.int64)
    if name == "token_type_ids":
        # A question and its context: the second half is segment 1 where the model has two segments.
        segments = np.zeros(shape, np.int64)
        if (io.get("type_vocab_size") or 0) >= 2:
            segments[:, seq // 2 :] = 1
        return segments
    if name == "position_ids":
        return np.broadcast_to(np.arange(seq, dtype=np.int64), shape)
    raise StageFailed(
        "input",
        f"the farm has no values for input {name}; it knows input_ids, attention_mask, token_type_ids "
        "and position_ids",
    )


def _ids(io: Mapping[str, Any], shape: tuple[int, int], random: np.random.RandomState) -> np.ndarray:
    low, high = id_range(io.get("vocab_size"))
    pad = io.get("pad_token_id")
    if pad is not None and low <= pad < high and high - low > 1:
        ids = random.randint(low, high - 1, shape, dtype=np.int64)
        return np.where(ids >= pad, ids + 1, ids)
    return random.randint(low, high, shape, dtype=np.int64)


def id_range(vocabulary: int | None) -> tuple[int, int]:
    """First id and one past the last, without the ends of the vocabulary where special tokens live."""
    size = vocabulary or _UNKNOWN_VOCABULARY
    low = min(_FIRST_WORD, size // 8)
    return low, max(size - min(_LAST_SPECIAL, size // 8), low + 1)


def _stream(name: str, batch: int, seq: int, seed: int) -> np.random.RandomState:
    # RandomState: numpy keeps its streams the same for good (NEP 19), which Generator's are not.
    mixed = hashlib.sha256(f"{seed}:{name}:{batch}x{seq}".encode()).digest()
    return np.random.RandomState(np.frombuffer(mixed, "<u4"))


def _check_dims(name: str, dims: list[str | int], batch: int, seq: int) -> None:
    if len(dims) != 2:
        raise StageFailed(
            "input", f"input {name} has {len(dims)} dimensions; the farm fills [batch, sequence]"
        )
    for what, dim, asked in (("batch size", dims[0], batch), ("sequence length", dims[1], seq)):
        if isinstance(dim, int) and dim != asked:
            raise StageFailed("input", f"{what} {asked} does not fit input {name}, which is fixed at {dim}")
