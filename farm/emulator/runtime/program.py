"""A compiled program as the runtime sees it: its bindings, and an ONNX Runtime session that computes it."""

from __future__ import annotations

import ctypes
import json
import os
import threading
from collections.abc import Mapping, Sequence
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
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
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
#: What an inference may raise under either timing.
RUN_ERRORS: tuple[type[Exception], ...] = (*COMPUTE_ERRORS, qpc.BadQpc)


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

    def __init__(self, path: Path, description: Mapping[str, Any], network: bytes) -> None:
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
                self._session = self._open(threads=1)
            return self._session

    def _open(self, threads: int) -> ort.InferenceSession:
        """A session that maps its weights from the QPC; what it computes does not depend on `threads`."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _FATAL_ONLY
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # ONNX Runtime follows no link out of the folder, and the network knows the QPC by its first name.
        file = self.path.resolve()
        options.add_session_config_entry(_WEIGHTS_FOLDER, str(file.parent))
        if file.name != qpc.PROGRAM_FILE:
            data = np.memmap(file, mode="r")
            options.add_external_initializers_from_files_in_memory([qpc.PROGRAM_FILE], [data], [data.size])
        try:
            return ort.InferenceSession(self._network, options, providers=["CPUExecutionProvider"])
        except COMPUTE_ERRORS as error:
            raise qpc.BadQpc(f"{self.path}: {error}") from error

    def compute(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """One inference on the calling thread: outputs by name, contiguous, of their declared dtype."""
        return self._infer(self.session, inputs)

    def compute_apart(self, elements: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
        """The outputs of each element, as compute gives them, by a session on every CPU that is gone after.

        Raises qpc.BadQpc and COMPUTE_ERRORS.
        """
        session = self._open(threads=len(os.sched_getaffinity(0)))
        found = [self._infer(session, inputs) for inputs in elements]
        del session
        give_back()
        return found

    def _infer(self, session: ort.InferenceSession, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return self.named(session.run([binding.name for binding in self.outputs], dict(inputs)))

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


def give_back() -> None:
    """Give the host the memory that was freed: the C library keeps it otherwise."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def load(directory: Path) -> Program:
    """Load `directory`/programqpc.bin. Raises OSError, or qpc.BadQpc when it is not whole."""
    path = directory / qpc.PROGRAM_FILE
    segments = qpc.read(path)
    if qpc.DESCRIPTION not in segments:
        raise qpc.BadQpc(f"{path}: no segment {qpc.DESCRIPTION}")
    try:
        description = json.loads(bytes(segments[qpc.DESCRIPTION]))
        return Program(path, description, bytes(segments[qpc.NETWORK]))
    except (KeyError, TypeError, ValueError) as error:
        raise qpc.BadQpc(f"{path}: malformed {qpc.DESCRIPTION}: {error!r}") from error
