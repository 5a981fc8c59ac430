"""`qaic.Session`: the SDK's high-level Python interface. Source: docs/sdk.md, "qaic.Session"."""

from __future__ import annotations

import itertools
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from . import api, compiler, engine, flags, program, qpc, settings
from .program import Array

_DEFAULT_SET_SIZE = 10
_BENCHMARK_INFERENCES = 40
_RUN_OPTIONS: dict[str, Any] = {
    "dev_id": 0,
    "num_activations": 1,
    "set_size": _DEFAULT_SET_SIZE,
    "backend": "aic",
    "enable_metrics": False,
    "enable_profiling": False,
}
_UPDATABLE = ("num_activations", "dev_id", "set_size")
#: Compile options whose flag is not simply their name with dashes.
_FLAG_NAMES = {"custom_io_list_file": "custom-IO-list-file", "output_dir": "aic-binary-dir"}
#: Accepted without effect.
_IGNORED = {"oversubscription_name"}
_PERCENTILES = {"P25": 25, "P50": 50, "P75": 75, "P90": 90, "P99": 99, "P999": 99.9}


class Session:
    """A network on a card.

    model_path: the file `programqpc.bin` (not its folder), or an .onnx file, which is compiled first with
    the compile options given (the compiler's flags with underscores; `onnx_define_symbol` a list of pairs
    or a mapping). Raises FileNotFoundError, ValueError for a wrong option, RuntimeError when compiling or
    activating fails.
    """

    def __init__(self, model_path: str, **options: Any) -> None:
        if "options_path" in options:
            text = Path(options.pop("options_path")).read_text()
            options = {**import_module("yaml").safe_load(text), **options}
        self._options = {**_RUN_OPTIONS, **{key: options.pop(key) for key in _RUN_OPTIONS if key in options}}
        known = flags.known(settings.load(api.ROOT).modern)
        for key in options:
            if _flag_name(key) not in known and key not in _IGNORED:
                raise ValueError(f"{key} is not an option of Session")
        if self._options["backend"] != "aic":
            raise ValueError(f"backend {self._options['backend']!r} is not supported: use 'aic'")
        if self._options["enable_metrics"] and self._options["enable_profiling"]:
            raise ValueError("enable_metrics and enable_profiling exclude each other")
        path = Path(model_path)
        if not path.is_file():
            raise FileNotFoundError(f"{model_path}: no such file: name programqpc.bin itself, or an .onnx")
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        if path.suffix == ".onnx":
            path = self._compile(path, options)
        elif path.name != qpc.PROGRAM_FILE:
            raise ValueError(f"{model_path}: not a {qpc.PROGRAM_FILE} and not an .onnx file")
        try:
            self._program = api.load(path.parent)
        except qpc.BadQpc as error:
            raise RuntimeError(f"Invalid qpc, failed to create qpc object: {error}") from error
        self._active: api.Active | None = None
        self._starting = threading.Lock()
        self._numbers = itertools.count()
        self._latencies: list[float] = []

    def _compile(self, model: Path, options: Mapping[str, Any]) -> Path:
        self._scratch = tempfile.TemporaryDirectory(prefix="qaic-session-")
        given = {key: value for key, value in options.items() if key not in _IGNORED}
        asked = {"output_dir": str(Path(self._scratch.name) / "qpc"), **given}
        argv = [f"-m={model}", "-aic-hw", "-compile-only"]
        for key, value in asked.items():
            name = _flag_name(key)
            if key == "onnx_define_symbol":
                pairs = value.items() if isinstance(value, Mapping) else value
                argv += [f"-{name}={symbol},{size}" for symbol, size in pairs]
            elif value is True:
                argv.append(f"-{name}")
            elif value is not False and value is not None:
                argv.append(f"-{name}={value}")
        if compiler.main("qaic-exec", argv, api.ROOT) != 0:
            raise RuntimeError(f"Failed to compile {model}")
        found = Path(asked["output_dir"]) / qpc.PROGRAM_FILE
        if not found.is_file():
            raise RuntimeError(f"Failed to compile {model}: no {qpc.PROGRAM_FILE}")
        return found

    @property
    def model_input_shape_dict(self) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Input name -> (shape, numpy type)."""
        return _shapes(self._program.inputs)

    @property
    def model_output_shape_dict(self) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Output name -> (shape, numpy type)."""
        return _shapes(self._program.outputs)

    def setup(self) -> None:
        """Load and activate; otherwise the first run does. Raises RuntimeError when the card refuses."""
        self._activated()

    def _activated(self) -> api.Active:
        with self._starting:
            if self._active is None:
                self._active = api.Active(
                    self._program,
                    int(self._options["dev_id"]),
                    int(self._options["num_activations"]),
                    int(self._options["set_size"]),
                )
            return self._active

    def run(self, input_dict: Mapping[str, Array]) -> dict[str, Array]:
        """One inference, blocking; may be called from many threads. Raises ValueError for wrong inputs."""
        inputs = self._checked(input_dict)
        active = self._activated()
        started = time.perf_counter()
        active.acquire()
        request = api.Request(next(self._numbers), inputs)
        active.submit(request)
        found = active.take(request.number)
        active.release(request)
        if found is None or found.error is not None:
            raise RuntimeError(f"Failed to run inference: {request.error}")
        if self._options["enable_metrics"] or self._options["enable_profiling"]:
            self._latencies.append(time.perf_counter() - started)
        return found.outputs

    def _checked(self, input_dict: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs as the program's buffers: raw bytes of exactly their size, whatever their dtype."""
        inputs = {}
        for binding in self._program.inputs:
            if binding.name not in input_dict:
                raise ValueError(f"Input {binding.name} is missing")
            given = np.ascontiguousarray(input_dict[binding.name])
            if given.nbytes != binding.size:
                raise ValueError(
                    f"Invalid input size of {binding.name}, "
                    f"expected {binding.size} but {given.nbytes} is provided."
                )
            inputs[binding.name] = given.reshape(-1).view(binding.dtype).reshape(binding.dims)
        return inputs

    def run_benchmark(
        self,
        num_inferences: int | None = None,
        inf_time: float | None = None,
        input_dict: Mapping[str, Array] | None = None,
    ) -> tuple[int, float, float, int]:
        """(inferences, rate, time, batch size) of `num_inferences` (40) inferences or `inf_time` seconds.

        Random inputs when none are given. What the rate counts and the time's unit are the scenario's choice.
        """
        if num_inferences is not None and inf_time is not None:
            raise ValueError("num_inferences and inf_time exclude each other")
        inputs = self._program.random_inputs() if input_dict is None else self._checked(input_dict)
        active = self._activated()
        until = (
            engine.Until(count=num_inferences or _BENCHMARK_INFERENCES)
            if inf_time is None
            else engine.Until(seconds=float(inf_time))
        )
        result = active.benchmark(until, inputs)
        micro = active.scenario.option("time_unit") == "microseconds"
        duration = result.duration_us if micro else result.duration_us / 1e6
        return result.inferences, active.rate(result), duration, self._program.batch_size

    def reset(self) -> None:
        """Give the card back; the next run activates again."""
        with self._starting:
            active, self._active = self._active, None
        if active is not None:
            active.close()

    def __del__(self) -> None:
        if getattr(self, "_active", None) is not None:
            self.reset()

    def backend_options(self) -> dict[str, Any]:
        """The options that update_backend_options may change."""
        return {name: self._options[name] for name in _UPDATABLE}

    def update_backend_options(self, **options: Any) -> None:
        """Change num_activations, dev_id or set_size; they hold from the next activation on."""
        for name, value in options.items():
            if name not in _UPDATABLE:
                raise ValueError(f"{name} cannot be changed: use {', '.join(_UPDATABLE)}")
            self._options[name] = value
        self.reset()

    def get_metrics(self) -> dict[str, float]:
        """Latency figures of `run` in seconds; needs enable_metrics or enable_profiling."""
        if not (self._options["enable_metrics"] or self._options["enable_profiling"]):
            raise RuntimeError("Metrics are not enabled: set enable_metrics or enable_profiling")
        found = np.array(self._latencies or [0.0])
        return {
            "num_of_inferences": len(self._latencies),
            "min_latency": float(found.min()),
            "max_latency": float(found.max()),
            **{name: float(np.percentile(found, rank)) for name, rank in _PERCENTILES.items()},
            "total_inference_time": float(found.sum()),
            "avg_latency": float(found.mean()),
        }

    def print_metrics(self) -> None:
        """Print get_metrics, a line each."""
        for name, value in self.get_metrics().items():
            print(f"{name}: {value}")

    def print_profile_data(self, n: int = 1) -> None:
        """Print the latencies of the last n inferences."""
        for latency in self._latencies[-n:]:
            print(f"latency: {latency} s")


def _flag_name(option: str) -> str:
    return _FLAG_NAMES.get(option, option.replace("_", "-"))


def _shapes(bindings: Sequence[program.Binding]) -> dict[str, tuple[tuple[int, ...], Any]]:
    return {binding.name: (binding.dims, binding.dtype.type) for binding in bindings}
