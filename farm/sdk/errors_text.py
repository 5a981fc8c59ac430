"""Whose fault a failed compile or run was, told from how it ended and from the last lines of its log.

Sources of the texts: the open runtime, the SDK's issue tracker and FAQ (docs/sdk.md, "Failures").
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from farm.domain.errors import FailureKind, StageFailed
from farm.sdk.child import ChildResult

#: How much of a log's end is searched.
_TAIL_BYTES = 64 * 1024
_MAX_MESSAGE = 300
#: How the API child begins its last line.
_VERDICT = "api_child: "
_USAGE = re.compile(r"^\s*usage\b", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class _Sign:
    pattern: re.Pattern[str]
    kind: FailureKind


def _signs(*signs: tuple[str, FailureKind]) -> tuple[_Sign, ...]:
    return tuple(_Sign(re.compile(rf"^.*(?:{text}).*$", re.MULTILINE), kind) for text, kind in signs)


_DISK_FULL: tuple[str, FailureKind] = ("No space left on device|Disk quota exceeded", "host")
#: The first sign found decides.
_COMPILER: tuple[_Sign, ...] = _signs(
    _DISK_FULL,
    ("std::bad_alloc|Cannot allocate memory", "host"),
    (r"Error message: .*Operator-'", "input"),
    (r"Invalid option|Invalid value|json\.exception", "input"),
    ("Unable to AddNodesToGraphFromModel|QAIC_ERROR", "input"),
)
#: How getopt complains of a command line.
_OPTION = (
    "(?:[Uu]nrecognized|[Uu]nknown|[Ii]nvalid) option"
    "|option '[^']*' (?:is ambiguous|requires an argument|doesn't allow an argument)"
    "|option requires an argument"
)
_RUNNER: tuple[_Sign, ...] = _signs(
    _DISK_FULL,
    (_OPTION, "input"),
    # Its first activation was ours, so waiting for another tenant would be waiting for nobody.
    ("refused the program a second time|still answered QS_AGAIN", "card"),
    ("resource exhausted|Failed to allocate (?:NSP resources|virtual channel|MCID|semaphore)", "busy"),
    ("cannot be imported by Python|fits neither|the program's batch is", "host"),
    ("QS_(?:TIMEDOUT|NODEV|DEV_ERROR)", "card"),
    ("not in ready state|Invalid device|IOCTL: Connection timed out|No such device", "card"),
    ("activate failed|Failed to Activate|Error activating", "card"),
    ("Invalid qpc|Invalid input file size|File size smaller than buffer size|Failed to open file", "host"),
    ("Failed to initialize QAIC runner|Failed to run QAIC runner", "card"),
)


def compiler_failure(result: ChildResult) -> StageFailed:
    """The failure of a compiler that did not end well. Our own limits on it are the input's fault."""
    if result.ended in ("limit", "memory", "idle"):
        return StageFailed("input", f"the compiler {_passed(result)}", str(result.log))
    return _failure("the compiler", _COMPILER, result)


def runner_failure(result: ChildResult) -> StageFailed:
    """The failure of a runner (or API child) that did not end well. A hang is the card's fault."""
    if result.survivors:
        message = f"process {result.survivors[0]} outlived SIGKILL and may still hold the card"
        return StageFailed("card", message, str(result.log))
    if result.ended in ("limit", "idle"):
        return StageFailed("card", f"the run {_passed(result)}", str(result.log))
    return _failure("the run", _RUNNER, result)


def usage_instead(result: ChildResult) -> StageFailed | None:
    """The failure of a runner that ended well but printed its usage and ran nothing, else None.

    The open runtime's runner does so for an option it does not know. Another attempt would do the same.
    """
    text = _tail(result.log)
    if "Inf/Sec" in text or not _USAGE.search(text):
        return None
    complaint = re.search(rf"^.*(?:{_OPTION}).*$", text, re.MULTILINE)
    said = _shorten(complaint[0]) if complaint else "no option is named"
    return StageFailed("input", f"the runner printed its usage instead of running: {said}", str(result.log))


def _failure(what: str, signs: tuple[_Sign, ...], result: ChildResult) -> StageFailed:
    log = str(result.log)
    if result.ended != "exit":
        return StageFailed("host", f"{what} was {_passed(result)}", log)
    how = f"signal {result.signal}" if result.signal else f"status {result.returncode}"
    text = _tail(result.log)
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "no output")
    if last.startswith(_VERDICT):
        text = last  # what the SDK said on the way may have been overcome
    for sign in signs:
        if found := sign.pattern.search(text):
            return StageFailed(sign.kind, f"{what} ended with {how}: {_shorten(found[0])}", log)
    if result.signal == 9 or result.returncode == 137:
        return StageFailed("host", f"{what} was killed (out of memory?)", log, out_of_memory=True)
    return StageFailed("host", f"{what} ended with {how}: {_shorten(last)}", log)


def _passed(result: ChildResult) -> str:
    return {
        "limit": f"did not end within {result.seconds:.0f} s",
        "idle": f"made no progress and was ended after {result.seconds:.0f} s",
        "memory": f"grew to {result.peak_rss_bytes / 2**20:.0f} MiB, beyond its cap",
    }.get(result.ended, "stopped")


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - _TAIL_BYTES))
        return file.read().decode(errors="replace")


def _shorten(line: str) -> str:
    line = " ".join(line.split())
    return line if len(line) <= _MAX_MESSAGE else line[: _MAX_MESSAGE - 1] + "…"
