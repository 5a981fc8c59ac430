"""The compiler's command line: single dash, `=` before the value, booleans bare or `=true`.

Source: docs/sdk.md, "flags"; Cloud AI SDK docs, Compile-the-Model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

#: Flag -> (takes a value, what `-h` says). Both profiles know these.
_COMMON: dict[str, tuple[bool, str]] = {
    "m": (True, "path to the model file"),
    "model": (True, "path to the model file"),
    "onnx-define-symbol": (True, "<name>,<value> of a dynamic dimension; may be repeated"),
    "aic-hw": (False, "compile for the hardware"),
    "aic-num-cores": (True, "number of NSP cores of one instance, 1 to 16 (default 1)"),
    "aic-binary-dir": (True, "folder to make for the program"),
    "convert-to-fp16": (False, "run the network in 16-bit floating point"),
    "convert-to-quantize": (False, "quantize the network"),
    "dump-profile": (True, "write a quantization profile"),
    "load-profile": (True, "read a quantization profile"),
    "node-precision-info": (True, "file naming the precision of nodes"),
    "execute-nodes-in-fp16": (True, "node kinds to run in 16-bit floating point"),
    "compile-only": (False, "compile, do not run"),
    "batchsize": (True, "batch size of a network whose batch is not symbolic (default 1)"),
    "stats-batchsize": (True, "batch size that statistics are normalised by (default 1)"),
    "mos": (True, "how many cores may share the weights of an output channel group"),
    "ols": (True, "how far operations are split"),
    "multicast-weights": (False, "fetch shared weights once for all cores"),
    "mxfp6-matmul": (False, "keep weights of matrix products in MXFP6"),
    "network-specialization-config": (True, "JSON file of shape specializations"),
    "aic-enable-depth-first": (False, "process activations in tiles"),
    "aic-depth-first-mem": (True, "memory in MB of a depth-first tile"),
    "allocator-dealloc-delay": (True, "how long freed on-chip memory stays, 0 to 10"),
    "size-split-granularity": (True, "granularity of split operations in KiB, 512 to 2048"),
    "vtcm-working-set-limit-ratio": (True, "share of on-chip memory a working set may take, 0 to 1"),
    "mdp-load-partition-config": (True, "JSON file that splits the network over several devices"),
    "mdp-dump-partition-config": (True, "write such a file"),
    "time-passes": (False, "print the time of each compiler pass"),
    "aic-perf-metrics": (False, "print performance estimates"),
    "aic-perf-warnings": (False, "print performance hints"),
    "ddr-stats": (False, "collect memory statistics"),
    "aic-pmu-recipe": (True, "performance counter recipe"),
    "aic-pmu-events": (True, "performance counter events"),
    "compile-threads": (True, "number of compiler threads"),
    "custom-IO-list-file": (True, "file of input and output types"),
    "operators-supported": (True, "write the operators known for a framework, and stop"),
    "device-id": (True, "device to run on after compiling"),
    "v": (False, "say more"),
}
_OLD = {
    "aic-hw-version": (True, "version of the hardware (default 2.0)"),
    "aic-profiling-type": (True, "statistics to build in: stats, trace or latency"),
}
_MODERN = {
    "aic-hw-version": (True, "version of the hardware: 2.0 (default), ai100"),
    "stats-level": (True, "statistics to build in, 10 to 100 (default 40)"),
    "retained-state": (False, "keep state on the device"),
    "allow-mxint8-mdp-io": (False, "MXINT8 between devices"),
    "sub-functions": (False, "keep functions of the network apart"),
    "mdts-mos": (True, "mos of a network over several devices"),
}
_HELP = {"-h", "-help", "--help"}
#: Flags that may be given more than once.
REPEATABLE = {"onnx-define-symbol", "execute-nodes-in-fp16"}


class BadFlag(ValueError):
    """The command line is not the compiler's; the message is what it prints."""


def known(modern: bool) -> dict[str, tuple[bool, str]]:
    """The flags of a profile."""
    return {**_COMMON, **(_MODERN if modern else _OLD)}


def asks_help(argv: Sequence[str]) -> bool:
    """Whether the command line asks for the list of options."""
    return any(argument in _HELP for argument in argv)


def usage(program: str, modern: bool) -> str:
    """The list of options."""
    lines = [f"Usage: {program} [options]", "Options:"]
    for name, (takes_value, text) in sorted(known(modern).items()):
        flag = f"-{name}=<value>" if takes_value else f"-{name}"
        lines.append(f"  {flag:<42}{text}")
    lines.append(f"  {'-h, -help, --help':<42}this list")
    return "\n".join(lines)


def parse(argv: Sequence[str], modern: bool, repeated: str) -> dict[str, list[str]]:
    """Flag -> its values, one but for REPEATABLE flags; a bare boolean has the value "true".

    `repeated` says what a single-valued flag given twice means: its last value, its first, or an error.
    """
    flags = known(modern)
    values: dict[str, list[str]] = {}
    for argument in argv:
        name, equals, value = argument.removeprefix("-").partition("=")
        if not argument.startswith("-") or name not in flags:
            raise BadFlag(f"Invalid option {argument}. Use -h, -help, or --help for list of options.")
        takes_value = flags[name][0]
        if takes_value and not value:
            raise BadFlag(f"Option -{name} needs a value: -{name}=<value>")
        if not takes_value:
            if equals and value not in ("true", "false"):
                raise BadFlag(f"Option -{name} takes no value but true or false, not {value!r}")
            value = value or "true"
        name = "m" if name == "model" else name
        earlier = values.setdefault(name, [])
        if not earlier or name in REPEATABLE:
            earlier.append(value)
        elif repeated == "error":
            raise BadFlag(f"Option -{name} may only occur once.")
        elif repeated == "last":
            earlier[:] = [value]
    return {name: found for name, found in values.items() if found != ["false"]}


def whole_number(flags: dict[str, list[str]], name: str, low: int, high: int) -> int | None:
    """The value of a counting flag, None where it is not given; BadFlag when it is out of its range."""
    if name not in flags:
        return None
    text = flags[name][0]
    if not (text.isascii() and text.isdigit()) or not low <= int(text) <= high:
        raise BadFlag(f"Invalid value {text} for option -{name}: expected {low} to {high}")
    return int(text)


def symbols(flags: dict[str, list[str]]) -> dict[str, int]:
    """The values given to dynamic dimensions."""
    defined = {}
    for text in flags.get("onnx-define-symbol", []):
        name, _, value = text.rpartition(",")
        if not name or not (value.isascii() and value.isdigit()) or int(value) < 1:
            raise BadFlag(f"Invalid value {text} for option -onnx-define-symbol: expected <name>,<value>")
        defined[name] = int(value)
    return defined


def lists_operators(flags: dict[str, list[str]]) -> bool:
    """Whether the command line asks for the list of operators; BadFlag for any framework but ONNX."""
    framework = flags.get("operators-supported", [""])[0]
    if framework not in ("", "onnx"):
        raise BadFlag(f"Invalid value {framework} for option -operators-supported")
    return bool(framework)


class Asked:
    """The compilation that a command line asks for. Raises BadFlag."""

    def __init__(self, program: str, given: dict[str, list[str]], modern: bool) -> None:
        for name in ("m", "aic-binary-dir"):
            if name not in given:
                raise BadFlag(f"Option -{name} is required. Use -h, -help, or --help for list of options.")
        if "aic-hw" not in given:
            raise BadFlag("Option -aic-binary-dir needs -aic-hw.")
        version = given.get("aic-hw-version", ["2.0"])[0]
        if version not in (("2.0", "ai100") if modern else ("2.0",)):
            raise BadFlag(f"Invalid value {version} for option -aic-hw-version")
        self.program = program
        self.given = given
        self.cores = whole_number(given, "aic-num-cores", 1, 16) or 1
        self.mos = whole_number(given, "mos", 1, 4096)
        self.ols = whole_number(given, "ols", 1, 4096)
        self.stats_batch = whole_number(given, "stats-batchsize", 1, 1 << 20)
        self.batch = whole_number(given, "batchsize", 1, 1 << 20)
        self.device = whole_number(given, "device-id", 0, 10_000) or 0
        self.symbols = symbols(given)
        self.half = "convert-to-fp16" in given
        self.compile_only = program == "qaic-compile" or "compile-only" in given
        self.model_name = given["m"][0]
        self.directory_name = given["aic-binary-dir"][0]
        self.directory = Path(self.directory_name)
