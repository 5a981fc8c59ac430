"""qaic-exec and qaic-compile: an ONNX model into a folder with `programqpc.bin`.

Texts, their order and the exit status follow docs/sdk.md ("compiler"). The program computes what the model
does, at the static shapes asked for and with weights rounded to 16 bits (convert.py).
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
from .scenario import Scenario, load

_DEFAULT_HW_VERSION = "2.0"


class CompileError(Exception):
    """The compiler gives up; the message is what it prints on stderr."""


def main(program: str, argv: list[str], root: Path) -> int:
    """Run the compiler `program` (qaic-exec or qaic-compile); its exit status."""
    scenario = load(root)
    setup = settings.load(root)
    if flags.asks_help(argv):
        print(flags.usage(program, setup.modern))
        return 0
    try:
        given = flags.parse(argv, setup.modern, scenario.option("repeated_flag"))
        if "operators-supported" in given:
            return _list_operators(given["operators-supported"][0])
        return Compiler(program, given, setup, scenario).run()
    except (flags.BadFlag, CompileError) as error:
        sys.stdout.flush()
        print(error, file=sys.stderr)
        return misbehave.FAILURE


def _list_operators(framework: str) -> int:
    if framework != "onnx":
        raise flags.BadFlag(f"Invalid value {framework} for option -operators-supported")
    names = sorted({schema.name for schema in onnx.defs.get_all_schemas()})
    Path("OnnxSupportedOperators.txt").write_text("\n".join(names) + "\n")
    return 0


class Compiler:
    """One compilation. Raises BadFlag and CompileError."""

    def __init__(
        self, program: str, given: dict[str, list[str]], setup: settings.Settings, scenario: Scenario
    ) -> None:
        self.program = program
        self.given = given
        self.settings = setup
        self.scenario = scenario
        for name in ("m", "aic-binary-dir"):
            if name not in given:
                raise flags.BadFlag(
                    f"Option -{name} is required. Use -h, -help, or --help for list of options."
                )
        if "aic-hw" not in given:
            raise flags.BadFlag("Option -aic-binary-dir needs -aic-hw.")
        version = given.get("aic-hw-version", [_DEFAULT_HW_VERSION])[0]
        if version not in (("2.0", "ai100") if setup.modern else ("2.0",)):
            raise flags.BadFlag(f"Invalid value {version} for option -aic-hw-version")
        self.cores = flags.whole_number(given, "aic-num-cores", 1, 16) or 1
        self.mos = flags.whole_number(given, "mos", 1, 4096)
        self.ols = flags.whole_number(given, "ols", 1, 4096)
        self.stats_batch = flags.whole_number(given, "stats-batchsize", 1, 1 << 20)
        self.batch = flags.whole_number(given, "batchsize", 1, 1 << 20)
        self.half = "convert-to-fp16" in given
        self.model_name = given["m"][0]
        self.directory_name = given["aic-binary-dir"][0]
        self.directory = Path(self.directory_name)

    def run(self) -> int:
        """Compile; the exit status."""
        started = time.monotonic()
        compile_only = self.program == "qaic-compile" or "compile-only" in self.given
        if self.program == "qaic-compile" and "compile-only" in self.given:
            print("[Deprecated] Option -compile-only is not needed: qaic-compile only compiles.")
        if not self.settings.modern:
            print(f"loading compiler from: {self.settings.root}/dev/lib/x86_64/libQAicCompiler.so")
        symbols = self._symbols()
        print(f"Reading ONNX Model from {self.model_name}", flush=True)
        source = self._read(symbols)
        print("Compile started ............... ", flush=True)
        if self.half:
            print("Compiling model with FP16 precision.", flush=True)
        self._make_directory()
        factor = misbehave.at_start(self.scenario, self.program)
        if (memory := self._fault("memory")) is not None:
            misbehave.hold_memory(memory)
        if (status := misbehave.death(self.scenario, self.program)) is not None:
            return status
        self._build(source, symbols)
        time.sleep((time.monotonic() - started) * (factor - 1))
        print(f"Generated binary is present at {self.directory_name}", flush=True)
        if not compile_only:
            self._run_on_card()
        return 0

    def _fault(self, name: str) -> dict[str, Any] | None:
        return self.scenario.fault(self.program, name)

    def _symbols(self) -> dict[str, int]:
        symbols = flags.symbols(self.given)
        if "network-specialization-config" in self.given:
            path = Path(self.given["network-specialization-config"][0])
            try:
                entries = json.loads(path.read_text())["specializations"]
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
                symbols[name] = int(value)
        return symbols

    def _read(self, symbols: dict[str, int]) -> convert.Source:
        try:
            source = convert.load(Path(self.model_name))
        except OSError as error:
            raise CompileError(
                f"Unable to open model file {self.model_name}: {error.strerror or error}"
            ) from error
        except ValueError as error:
            raise CompileError(f"QAIC_ERROR:\nError message:  {error}") from error
        unknown = set(symbols) - convert.symbols(source.model)
        if unknown and self.scenario.option("strict_symbols"):
            raise CompileError(f"Symbol {min(unknown)} is not defined in the model {self.model_name}")
        return source

    def _make_directory(self) -> None:
        try:
            self.directory.mkdir(parents=self.scenario.option("compiler_makes_parents"))
        except FileExistsError as error:
            raise CompileError(f"Output directory {self.directory_name} already exists") from error
        except OSError as error:
            raise CompileError(
                f"Unable to create output directory {self.directory_name}: {error.strerror}"
            ) from error

    def _build(self, source: convert.Source, symbols: dict[str, int]) -> None:
        request = build.Request(
            symbols=symbols,
            batch_size=self.batch or 1,
            stats_batch_size=self.stats_batch or 1,
            half=self.half,
            cores=self.cores,
            flags={
                "mos": self.mos,
                "ols": self.ols,
                "multicast_weights": "multicast-weights" in self.given,
                "mxfp6_matmul": "mxfp6-matmul" in self.given,
            },
            sdk=self.settings.build,
        )
        try:
            if (bad := self._fault("unsupported-operator")) is not None:
                raise build.Unsupported(source.model, str(bad.get("operator", "Einsum")), "not supported")
            built = build.build(source, request, self.directory, Path(self.model_name).stem)
            extra = (self._fault("underflow") or {"count": 0}).get("count", 1)
            for tensor in [*built.underflows, *(f"emulated.{number}" for number in range(extra))]:
                print(
                    f"WARNING: {tensor}/ contains value or values that will underflow after conversion to "
                    "16-bit floating point values."
                )
            if self._fault("disk-full") is not None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self._fault("silent") is None:
                build.write(built, self.directory, 1.0 if self._fault("truncated") is None else 0.5)
        except build.Rejected as error:
            raise CompileError(str(error)) from error
        except OSError as error:
            raise CompileError(f"QAIC_ERROR:\nError message:  {error.strerror or error}") from error

    def _run_on_card(self) -> None:
        """What qaic-exec does without -compile-only: run the program once, on random data, on a device."""
        from . import program  # not needed by a compile

        qid = flags.whole_number(self.given, "device-id", 0, 10_000) or 0
        loaded = program.load(self.directory)
        try:
            with Cards(self.settings.root).activate(qid, self.cores, 1, loaded.name, loaded.weight_bytes):
                loaded.compute(loaded.random_inputs())
        except ActivateError as error:
            raise CompileError(error.text) from error
