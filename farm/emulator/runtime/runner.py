"""qaic-runner: runs a program on a card, prints its statistics, writes outputs and latency files.

The checks come in the order a real run meets them, the texts and their order follow docs/sdk.md
("qaic-runner"); Inf/Sec = InferenceCnt x BatchSize x 10^6 / TotalDuration(us), exactly.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from . import engine, misbehave, profile, qpc, runner_inputs, settings, spoil, turns
from . import program as programs
from .card import ActivateError, Cards
from .runner_options import BadOption, parse, usage, whole
from .scenario import Scenario, load

TOOL = "qaic-runner"
_DEFAULT_ITERATIONS = 40
_DEFAULT_SET_SIZE = 10
_STALE_S = 3600
_INVALID_QPC = "Invalid qpc, failed to create qpc object"


class RunError(Exception):
    """The run cannot go on; the message is what the runner prints on stderr."""


def main(program: str, argv: list[str], root: Path) -> int:
    """Run qaic-runner with those arguments; its exit status; `program` is its own name."""
    setup = settings.load(root)
    try:
        given = parse(argv, setup.modern)
    except BadOption as error:
        # The open runtime's runner answers an unknown option with its usage and status 0.
        print(f"{program}: {error}", file=sys.stderr)
        print(usage(setup.modern))
        return 0
    if "help" in given:
        print(usage(setup.modern))
        return 0
    if "test-data" not in given:
        print("Error: Missing test data path\nFailed to validate arguments", file=sys.stderr)
        print(usage(setup.modern))
        return 1
    try:
        return Run(given, setup, load(root)).run()
    except (RunError, runner_inputs.BadInput, ActivateError) as error:
        sys.stdout.flush()
        print(error, file=sys.stderr)
        return 1


class Run:
    """One run. Raises RunError, BadInput and ActivateError."""

    def __init__(self, given: dict[str, list[str]], setup: settings.Settings, scenario: Scenario) -> None:
        self.given = given
        self.settings = setup
        self.scenario = scenario
        self.directory = Path(given["test-data"][-1])
        self.qid = self._device()
        self.activations = self._positive("aic-num-of-activations", 1)
        self.set_size = self._positive("set-size", _DEFAULT_SET_SIZE)
        self.until = self._until()
        self.output_dir = Path(self._value("write-output-dir", "."))
        self.keep = engine.Window(
            self._count("write-output-start-iter", 0), self._count("write-output-num-samples", 1)
        )
        if self.until.count is not None and self.keep.end > self.until.count:
            raise RunError(
                f"write-output-start-iter {self.keep.start} + write-output-num-samples {self.keep.number} "
                f"exceeds num-iter {self.until.count}"
            )
        self.latency = "latency" in given.get("aic-profiling-type", [])
        self.profile_dir = Path(self._value("aic-profiling-out-dir", "."))
        self.profile = engine.NOTHING
        if self.latency:
            self.profile = engine.Window(
                self._count("aic-profiling-start-iter", 0), self._count("aic-profiling-num-samples", 1)
            )

    def _value(self, name: str, default: str) -> str:
        return self.given.get(name, [default])[-1]

    def _count(self, name: str, default: int) -> int:
        number = whole(self._value(name, str(default)))
        if number < 0:
            raise RunError(f"Set a non-negative value for {name}")
        return number

    def _positive(self, name: str, default: int) -> int:
        number = whole(self._value(name, str(default)))
        if number < 1:
            raise RunError(f"Set a positive value for {name}")
        return number

    def _device(self) -> int:
        text = self._value("aic-device-id", self._value("dev-list", "0"))
        if ":" in text:
            raise RunError(f"Invalid device list {text}: networks over several devices are not emulated")
        return whole(text)

    def _until(self) -> engine.Until:
        if "time" in self.given:
            try:
                seconds = float(self._value("time", ""))
            except ValueError:
                seconds = 0.0
            if not 0 < seconds < float("inf"):
                raise RunError("Set a positive value for time")
            return engine.Until(seconds=seconds)
        count = self._positive("num-iter", _DEFAULT_ITERATIONS)
        return engine.Until(
            count=count, per_instance=self.scenario.option("iterations_count") == "per-activation"
        )

    def run(self) -> int:
        """Check, activate, run, report; the exit status."""
        if not self.settings.modern:
            print(f"loading {self.settings.root}/dev/lib/{platform.machine()}/libQAic.so", flush=True)
        cards = Cards(self.settings.root, self.scenario)
        self._check_device(cards)
        try:
            program = programs.load(self.directory)
            if self.settings.timing == "measured":
                _ = program.session  # made before the card is taken
        except (OSError, qpc.BadQpc) as error:
            raise RunError(f"{_INVALID_QPC}\n{error}") from error
        elements = self._elements(program)
        for directory in {self.output_dir, *([self.profile_dir] if self.latency else [])}:
            if not directory.is_dir() or not os.access(directory, os.W_OK):
                raise RunError(f"Output directory {directory} does not exist or is not writable")
        with cards.activate(
            self.qid, program.cores, self.activations, str(self.directory), program.weight_bytes
        ):
            slowness = misbehave.at_start(self.scenario, TOOL, self.qid)
            if (status := misbehave.death(self.scenario, TOOL, self.qid)) is not None:
                return status
            result = self._run(program, elements, slowness)
        self._write_outputs(result)
        files = self._write_latency(result)
        stats = self._stats(program, result)
        order = [files, stats] if self.scenario.option("stats_position") == "after-files" else [stats, files]
        print("\n".join(line for lines in order for line in lines), flush=True)
        return 0

    def _check_device(self, cards: Cards) -> None:
        device = cards.device(self.qid)
        if device is None:
            raise RunError(f"Invalid device:{self.qid}\nFailed to initialize QAIC runner")
        if not device.ready:
            raise RunError(f"Device:{self.qid} not in ready state\nFailed to initialize QAIC runner")

    def _elements(self, program: programs.Program) -> list[runner_inputs.Element]:
        batch = (
            ("aic-batch-json-input", runner_inputs.from_json),
            ("aic-batch-input-file-list", runner_inputs.from_list),
            ("aic-batch-input-directory", runner_inputs.from_directory),
        )
        for name, read in batch:
            if name in self.given:
                elements = read(program, Path(self._value(name, "")))
                print(f"Number of Files(as per batch input):{len(elements)}", flush=True)
                return elements
        if "input-file" in self.given:
            for file in self.given["input-file"]:
                print(f"Input file: {file}", flush=True)
            return runner_inputs.from_files(program, self.given["input-file"])
        print("Using bounded random inputs", flush=True)
        return [program.random_inputs()]

    def _run(
        self, program: programs.Program, elements: list[runner_inputs.Element], slowness: float
    ) -> engine.EngineResult:
        failures = {
            "timeout": "IOCTL: Connection timed out",
            "vanish": "IOCTL: No such device",
            "not-ready": f"Device:{self.qid} not in ready state",
        }
        failure = next((text for name, text in failures.items() if self._fault(name) is not None), None)
        until = self.until
        if failure is not None and until.seconds is not None:
            until = engine.Until(seconds=until.seconds / 2)
        try:
            result = engine.run(
                program,
                self.activations,
                self.set_size,
                until,
                elements,
                profile=self.profile,
                keep=self.keep,
                modelled=self.settings.timing == "modelled",
                heavy_tail=self.scenario.option("latency_tail") == "heavy",
                turn=turns.turn(self.settings.state),
                slowness=slowness,
            )
        except qpc.BadQpc as error:
            raise RunError(f"{_INVALID_QPC}\n{error}") from error
        except programs.COMPUTE_ERRORS as error:
            raise RunError(f"{error}\nFailed to run QAIC runner") from error
        if failure is not None:
            raise RunError(f"{failure}\nFailed to run QAIC runner")
        return result

    def _fault(self, name: str) -> dict[str, Any] | None:
        return self.scenario.fault(TOOL, name, qid=self.qid)

    def _write_outputs(self, result: engine.EngineResult) -> None:
        for (activation, number), values in result.outputs.items():
            values = spoil.outputs(values, self.scenario, TOOL, self.qid)
            if self._fault("output-missing") is not None:
                continue
            path = None
            for name, value in values.items():
                path = self.output_dir / f"{name.replace('/', '_')}-activation-{activation}-inf-{number}.bin"
                value.tofile(path)
            if path is not None and self._fault("output-short") is not None:
                os.truncate(path, path.stat().st_size // 2)

    def _write_latency(self, result: engine.EngineResult) -> list[str]:
        if not self.latency or self._fault("latency-missing") is not None:
            return []
        numbering = self.scenario.option("latency_numbering") or ("one" if self.settings.modern else "zero")
        stale = self._fault("latency-stale")
        if stale is not None and any(self.profile_dir.glob("aic-profiling-program-*-latency.txt")):
            return []
        fewer = self._fault("latency-fewer")
        tables = result.rows if fewer is None else result.rows[: int(fewer.get("files", 1))]
        preamble = 4 if self._fault("latency-five-headers") is None else 5
        directory = self._value("aic-profiling-out-dir", ".")
        said = profile.write(directory, tables, numbering, first=self.profile.start, preamble=preamble)
        empty = self._fault("latency-empty") is not None
        for path in self.profile_dir.glob("aic-profiling-program-*-latency.txt"):
            if empty:
                path.write_text("")
            if stale is not None:
                os.utime(path, (time.time() - _STALE_S,) * 2)
        return said

    def _stats(self, program: programs.Program, result: engine.EngineResult) -> list[str]:
        if self._fault("no-stats") is not None:
            return []
        rate = result.inferences * program.batch_size * 1e6 / result.duration_us
        wrong = self._fault("rate-inconsistent")
        printed = rate if wrong is None else rate * float(wrong.get("factor", 2.0))
        lines = [
            " ---- Stats ----",
            f"InferenceCnt {result.inferences} TotalDuration {result.duration_us}us "
            f"BatchSize {program.batch_size} Inf/Sec {printed:.3f}",
        ]
        return lines + (_device_report(self.qid, program, result) if self.settings.modern else [])


def _device_report(qid: int, program: programs.Program, result: engine.EngineResult) -> list[str]:
    """The report newer SDKs add: batches and samples per second of each activation."""
    rates = [count * 1e6 / result.duration_us for count in result.counts]
    mean = sum(rates) / len(rates)
    std = (sum((rate - mean) ** 2 for rate in rates) / len(rates)) ** 0.5
    lines = [
        "--- Aggregated Device Metrics Report ---",
        f"{'Metric':<28}, {'Avg':>12}, {'Min':>12}, {'Max':>12}, {'Std':>12}",
    ]
    for name, scale in (("BatchInfPerSec", 1), ("InfPerSec", program.batch_size)):
        figures = ", ".join(f"{value * scale:>12.3f}" for value in (mean, min(rates), max(rates), std))
        lines.append(f"{f'{name}_Dev_{qid}_Func_0':<28}, {figures}")
    return lines
