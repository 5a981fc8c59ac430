"""Further compiler flags given by a user or a table row, held to a list.

Source of the flags: Cloud AI SDK docs, model-compilation (docs/sdk.md, "Compiler flags").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from farm.domain.errors import BadInput
from farm.domain.names import show

Check = Callable[[str], bool]

_WHOLE = re.compile(r"[0-9]{1,9}")
_FRACTION = re.compile(r"[0-9]?\.?[0-9]{1,20}|[0-9]\.")


def _whole(low: int, high: int) -> Check:
    return lambda value: _WHOLE.fullmatch(value) is not None and low <= int(value) <= high


def _fraction(value: str) -> bool:
    return _FRACTION.fullmatch(value) is not None and 0 <= float(value) <= 1


def _one_of(*choices: str) -> Check:
    return lambda value: value in choices


#: Flags without a value; "=true" is accepted and dropped, as scripts write it both ways.
_SWITCHES = frozenset(
    {
        "-aic-enable-depth-first",
        "-aic-perf-metrics",
        "-aic-perf-warnings",
        "-allow-mxint8-mdp-io",
        "-ddr-stats",
        "-multicast-weights",
        "-mxfp6-matmul",
        "-retained-state",
        "-sub-functions",
        "-time-passes",
        "-v",
    }
)
#: Flags with a value: what may stand there, in words and as a test.
_VALUES: dict[str, tuple[str, Check]] = {
    "-aic-depth-first-mem": ("8 to 32 (MB)", _whole(8, 32)),
    "-aic-profiling-type": ("stats, trace or latency", _one_of("stats", "trace", "latency")),
    "-allocator-dealloc-delay": ("0 to 10", _whole(0, 10)),
    "-compile-threads": ("1 to 1024", _whole(1, 1024)),
    "-mdts-mos": ("1 to 64", _whole(1, 64)),
    "-size-split-granularity": ("512 to 2048 (KiB)", _whole(512, 2048)),
    "-stats-level": ("10 to 100", _whole(10, 100)),
    "-vtcm-working-set-limit-ratio": ("0 to 1", _fraction),
}
#: Flags that the farm sets from a job's own options.
_OWN = {
    "-m": "--model-name",
    "-model": "--model-name",
    "-onnx-define-symbol": "--batch-size and --seq-length",
    "-aic-hw": "the farm",
    "-aic-hw-version": "the farm",
    "-aic-num-cores": "--cores",
    "-convert-to-fp16": "--precision",
    "-convert-to-quantize": "--precision",
    "-compile-only": "the farm",
    "-aic-binary-dir": "the farm",
    "-batchsize": "--batch-size",
    "-stats-batchsize": "--batch-size",
    "-mos": "--mos",
    "-ols": "--ols",
    "-device-id": "--device",
}
#: Flags whose value names a file: its content would not be in the artifact's key.
_FILES = frozenset(
    {
        "-custom-IO-list-file",
        "-dump-profile",
        "-load-profile",
        "-mdp-dump-partition-config",
        "-mdp-load-partition-config",
        "-network-specialization-config",
        "-node-precision-info",
    }
)


def check_extra(flags: Sequence[str]) -> tuple[str, ...]:
    """The flags as they go to the compiler.

    Raises BadInput naming the first that is unknown, set by the farm, repeated or badly valued.
    """
    seen: set[str] = set()
    checked = []
    for flag in flags:
        name, equals, value = flag.partition("=")
        checked.append(_check(flag, name, value if equals else None))
        if name in seen:
            raise BadInput(f"--extra {show(name)}: given twice; the compiler does not say which one counts")
        seen.add(name)
    return tuple(checked)


def _check(flag: str, name: str, value: str | None) -> str:
    if name in _OWN:
        raise BadInput(f"--extra {show(flag)}: this flag is set by {_OWN[name]}")
    if name in _FILES:
        raise BadInput(f"--extra {show(flag)}: flags that name a file are not allowed")
    if name in _SWITCHES:
        if value not in (None, "true"):
            raise BadInput(f"--extra {show(flag)}: {name} takes no value; leave it out to switch it off")
        return name
    if name in _VALUES:
        allowed, accepts = _VALUES[name]
        if value is None or not accepts(value):
            raise BadInput(f"--extra {show(flag)}: write {name}=VALUE with VALUE {allowed}")
        return flag
    known = ", ".join(sorted({*_SWITCHES, *_VALUES}))
    raise BadInput(f"--extra {show(flag)}: not a compiler flag the farm allows; allowed: {known}")
