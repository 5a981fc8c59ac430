"""One compilation: read the model, make the directory, build the program, say so.

Texts and their order follow docs/sdk.md ("compiler").
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import onnx

from . import build, convert, flags, misbehave, settings
from .card import ActivateError, Cards
from .scenario import Scenario


class CompileError(Exception):
    """The compiler gives up; the message is what it prints on stderr."""


def run(asked: flags.Asked, setup: settings.Settings, scenario: Scenario) -> int:
    """Compile as asked; the exit status."""
    try:
        return Compilation(asked, setup, scenario).run()
    except CompileError as error:
        sys.stdout.flush()
        print(error, file=sys.stderr)
        return misbehave.FAILURE


def list_operators() -> None:
    """Write OnnxSupportedOperators.txt to the current folder."""
    names = sorted({schema.name for schema in onnx.defs.get_all_schemas()})
    Path("OnnxSupportedOperators.txt").write_text("\n".join(names) + "\n")


class Compilation:
    """What one call of the compiler does."""

    def __init__(self, asked: flags.Asked, setup: settings.Settings, scenario: Scenario) -> None:
        self.asked = asked
        self.settings = setup
        self.scenario = scenario

    def run(self) -> int:
        """Compile; the exit status. Raises CompileError."""
        started = time.monotonic()
        if self.asked.program == "qaic-compile" and "compile-only" in self.asked.given:
            print("[Deprecated] Option -compile-only is not needed: qaic-compile only compiles.")
        if not self.settings.modern:
            print(f"loading compiler from: {self.settings.root}/dev/lib/x86_64/libQAicCompiler.so")
        symbols = self._symbols()
        print(f"Reading ONNX Model from {self.asked.model_name}", flush=True)
        source = self._read(symbols)
        print("Compile started ............... ", flush=True)
        if self.asked.half:
            print("Compiling model with FP16 precision.", flush=True)
        self._make_directory()
        factor = misbehave.at_start(self.scenario, self.asked.program)
        if (memory := self._fault("memory")) is not None:
            misbehave.hold_memory(memory)
        if (status := misbehave.death(self.scenario, self.asked.program)) is not None:
            return status
        self._build(source, symbols)
        time.sleep(max(0.0, (time.monotonic() - started) * (factor - 1)))
        print(f"Generated binary is present at {self.asked.directory_name}", flush=True)
        if not self.asked.compile_only:
            self._run_on_card()
        return 0

    def _fault(self, name: str) -> dict[str, Any] | None:
        return self.scenario.fault(self.asked.program, name)

    def _symbols(self) -> dict[str, int]:
        symbols = dict(self.asked.symbols)
        if "network-specialization-config" in self.asked.given:
            path = Path(self.asked.given["network-specialization-config"][0])
            try:
                entries = json.loads(path.read_text())["specializations"]
                entries = [dict(entry) for entry in entries]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise CompileError(f"{path}: not a specialization file: {error!r}") from error
            if len(entries) != 1:
                raise CompileError(
                    f"{path}: the emulated compiler takes one specialization, not {len(entries)}"
                )
            for name, value in entries[0].items():
                if not isinstance(value, str):
                    kind = {dict: "object", list: "array", bool: "boolean"}.get(type(value), "number")
                    raise CompileError(f"[json.exception.type_error.302] type must be string, but is {kind}")
                if not (value.isascii() and value.isdigit()):
                    raise CompileError(f"{path}: {name} must be a whole number in quotes, not {value!r}")
                symbols[name] = int(value)
        return symbols

    def _read(self, symbols: dict[str, int]) -> convert.Source:
        try:
            source = convert.load(Path(self.asked.model_name))
        except OSError as error:
            raise CompileError(
                f"Unable to open model file {self.asked.model_name}: {error.strerror or error}"
            ) from error
        except ValueError as error:
            raise CompileError(f"QAIC_ERROR:\nError message:  {error}") from error
        unknown = set(symbols) - convert.symbols(source.model)
        if unknown and self.scenario.option("strict_symbols"):
            raise CompileError(f"Symbol {min(unknown)} is not defined in the model {self.asked.model_name}")
        return source

    def _make_directory(self) -> None:
        try:
            self.asked.directory.mkdir(parents=self.scenario.option("compiler_makes_parents"))
        except FileExistsError as error:
            raise CompileError(f"Output directory {self.asked.directory_name} already exists") from error
        except OSError as error:
            raise CompileError(
                f"Unable to create output directory {self.asked.directory_name}: {error.strerror}"
            ) from error

    def _build(self, source: convert.Source, symbols: dict[str, int]) -> None:
        request = build.Request(
            symbols=symbols,
            batch_size=self.asked.batch or 1,
            stats_batch_size=self.asked.stats_batch or 1,
            half=self.asked.half,
            cores=self.asked.cores,
            flags={
                "mos": self.asked.mos,
                "ols": self.asked.ols,
                "multicast_weights": "multicast-weights" in self.asked.given,
                "mxfp6_matmul": "mxfp6-matmul" in self.asked.given,
            },
            sdk=self.settings.build,
        )
        try:
            if (bad := self._fault("unsupported-operator")) is not None:
                raise build.Unsupported(source.model, str(bad.get("operator", "Einsum")), "not supported")
            built = build.build(source, request, Path(self.asked.model_name).stem)
            if self._fault("disk-full") is not None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self._fault("silent") is None:
                build.write(built, self.asked.directory, 1.0 if self._fault("truncated") is None else 0.5)
            extra = (self._fault("underflow") or {"count": 0}).get("count", 1)
            for tensor in [*built.constants.underflows, *(f"emulated.{number}" for number in range(extra))]:
                print(
                    f"WARNING: {tensor}/ contains value or values that will underflow after conversion to "
                    "16-bit floating point values."
                )
        except build.Rejected as error:
            raise CompileError(str(error)) from error
        except OSError as error:
            raise CompileError(f"QAIC_ERROR:\nError message:  {error.strerror or error}") from error

    def _run_on_card(self) -> None:
        """What qaic-exec does without -compile-only: run the program once, on random data, on a device."""
        from . import program  # not needed by a compile

        loaded = program.load(self.asked.directory)
        try:
            with Cards(self.settings.root).activate(
                self.asked.device, self.asked.cores, 1, loaded.name, loaded.weight_bytes
            ):
                loaded.compute(loaded.random_inputs())
        except ActivateError as error:
            raise CompileError(error.text) from error
