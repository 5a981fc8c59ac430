"""A compiled program as the runtime sees it: its bindings, and an ONNX Runtime session that computes it."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from . import qpc, timing

Array = NDArray[Any]
_FATAL_ONLY = 4
#: What ONNX Runtime raises; its exceptions have no common class of their own.
COMPUTE_ERRORS: tuple[type[Exception], ...] = (
    ort_state.EPFail,
    ort_state.Fail,
    ort_state.InvalidArgument,
    ort_state.InvalidGraph,
    ort_state.InvalidProtobuf,
    ort_state.NoSuchFile,
    ort_state.NotImplemented,
    ort_state.RuntimeException,
)


@dataclass(frozen=True)
class Binding:
    """One buffer of a program. `index` counts inputs first, then outputs; `size` is in bytes."""

    name: str
    index: int
    is_input: bool
    dtype: np.dtype[Any]
    dims: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of the buffer: the product of its dims times its element size."""
        return prod(self.dims) * self.dtype.itemsize


class Program:
    """A loaded QPC. Loading takes no card resource; the session is made when it is first needed."""

    def __init__(self, path: Path, description: Mapping[str, Any], network: bytes | Path) -> None:
        self.path = path
        self.description = description
        self.name: str = description["name"]
        self.cores: int = description["cores"]
        self.batch_size: int = description["batch_size"]
        self.features = timing.features_of(description)
        entries = [*description["inputs"], *description["outputs"]]
        bindings = [
            Binding(
                entry["name"],
                index,
                index < len(description["inputs"]),
                np.dtype(entry["dtype"]),
                tuple(entry["dims"]),
            )
            for index, entry in enumerate(entries)
        ]
        self.inputs = tuple(binding for binding in bindings if binding.is_input)
        self.outputs = tuple(binding for binding in bindings if not binding.is_input)
        self._network = network
        self._session: ort.InferenceSession | None = None
        self._making = threading.Lock()

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """Inputs, then outputs, in the order of their indices."""
        return self.inputs + self.outputs

    @property
    def session(self) -> ort.InferenceSession:
        """One thread-safe session; a call computes on the calling thread alone. Raises qpc.BadQpc."""
        with self._making:
            if self._session is None:
                options = ort.SessionOptions()
                options.intra_op_num_threads = 1
                options.inter_op_num_threads = 1
                options.log_severity_level = _FATAL_ONLY
                options.add_session_config_entry("session.intra_op.allow_spinning", "0")
                model = str(self._network) if isinstance(self._network, Path) else self._network
                try:
                    self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
                except COMPUTE_ERRORS as error:
                    raise qpc.BadQpc(f"{self.path}: {error}") from error
                self._network = b""
            return self._session

    def compute(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """One inference on the calling thread: outputs by name, contiguous, of their declared dtype."""
        found = self.session.run([binding.name for binding in self.outputs], dict(inputs))
        return self.named(found)

    def named(self, values: list[Array]) -> dict[str, Array]:
        """Outputs by name, each C-contiguous and of its declared dtype."""
        return {
            binding.name: np.ascontiguousarray(value, dtype=binding.dtype)
            for binding, value in zip(self.outputs, values, strict=True)
        }

    def random_inputs(self, seed: int = 0) -> dict[str, Array]:
        """Random inputs bounded to what every encoder takes: integers 0 or 1, reals in [0, 1)."""
        rng = np.random.default_rng(seed)
        return {
            binding.name: (
                rng.integers(0, 2, binding.dims) if binding.dtype.kind in "iub" else rng.random(binding.dims)
            ).astype(binding.dtype)
            for binding in self.inputs
        }

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights in the card's memory, tables that are only gathered from included."""
        found = self.description["features"]
        return int(found["weight_bytes"]) + int(found.get("gather_bytes", 0))


def load(directory: Path) -> Program:
    """Load `directory`/programqpc.bin. Raises OSError, or qpc.BadQpc when it is not whole."""
    path = directory / qpc.PROGRAM_FILE
    segments = qpc.read(path)
    if qpc.DESCRIPTION not in segments:
        raise qpc.BadQpc(f"{path}: no segment {qpc.DESCRIPTION}")
    try:
        description = json.loads(bytes(segments[qpc.DESCRIPTION]))
        network: bytes | Path = directory / qpc.NETWORK
        if qpc.NETWORK in segments:
            network = bytes(segments[qpc.NETWORK])
        return Program(path, description, network)
    except (KeyError, TypeError, ValueError) as error:
        raise qpc.BadQpc(f"{path}: malformed {qpc.DESCRIPTION}: {error!r}") from error
