"""qaic-runner's command line, read as getopt_long_only reads it.

Both dash forms of long names, a value after `=` or a blank, unique abbreviations, bundled short options. A
word with a single dash that fits a long name is that name. Source: docs/sdk.md, "qaic-runner options".
"""

from __future__ import annotations

import re
from collections.abc import Sequence


class Option:
    """One option: its names, whether it takes a value, and what `-h` says."""

    def __init__(self, names: str, value: str, text: str) -> None:
        self.names = names.split()
        self.value = value
        self.text = text

    @property
    def key(self) -> str:
        """The name its value is filed under: its first long one, without dashes."""
        return next((name for name in self.names if len(name) > 1), self.names[0])


_OPTIONS = [
    Option("t test-data", "dir", "folder that holds programqpc.bin"),
    Option("d aic-device-id dev", "qid", "device to run on (default 0)"),
    Option("D dev-list aic-device-map", "list", "devices of a network over several devices"),
    Option("a aic-num-of-activations", "n", "copies of the network on the device (default 1)"),
    Option("S set-size", "n", "inferences in flight for each activation (default 10)"),
    Option("n num-iter", "n", "inferences to run (default 40)"),
    Option("time", "s", "seconds to run, instead of num-iter"),
    Option("T aic-threads-per-queue", "n", "threads for each queue (default 4)"),
    Option("i input-file", "file", "input file, one for each input in binding order"),
    Option("aic-batch-input-directory", "dir", "folder of input files of a one-input network"),
    Option("aic-batch-input-file-list", "file", "file that lists input files, one inference a line"),
    Option("aic-batch-max-memory", "MB", "memory for batch inputs (default 1024)"),
    Option("auto-batch-input", "", "pack inputs of one sample up to the batch size"),
    Option("write-output-dir", "dir", "folder for outputs, must exist (default .)"),
    Option("write-output-start-iter", "n", "first inference whose outputs are written (default 0)"),
    Option("write-output-num-samples", "n", "inferences whose outputs are written (default 1)"),
    Option(
        "aic-profiling-type aic-profiling-format",
        "type",
        "stats, trace, latency, trace_stream, latency_stream",
    ),
    Option("aic-profiling-out-dir", "dir", "folder for profiles, must exist (default .)"),
    Option("aic-profiling-start-iter", "n", "first inference profiled (default 0)"),
    Option("aic-profiling-start-delay", "ms", "delay before profiling"),
    Option("aic-profiling-num-samples", "n", "inferences profiled (default 1)"),
    Option("aic-profiling-duration", "ms", "how long to profile (stream types)"),
    Option("aic-profiling-sampling-rate", "rate", "full, half, fourth, eighth or sixteenth (stream types)"),
    Option("aic-profiling-reporting-rate", "ms", "500, 1000, 2000 or 4000 (stream types)"),
    Option("l live-reporting", "", "report while running"),
    Option("r live-reporting-period", "ms", "period of live reports (default 1000)"),
    Option("s stats", "", "report statistics"),
    Option("submit-timeout", "ms", "limit of one submission (default 0: the driver's)"),
    Option("submit-retry-count", "n", "retries of a submission (default 5)"),
    Option("p pre-post-processing", "on|off", "conversions on the host (default on)"),
    Option("unbound-random", "", "random input bytes whatever the type"),
    Option("dump-input-buffers", "", "save the inputs"),
    Option("c", "", "compare outputs with the files the JSON names"),
    Option("v", "", "say more"),
    Option("h help", "", "this list"),
]
_BATCH_JSON = Option("aic-batch-json-input", "file", "JSON file that lists the inputs of each inference")


class BadOption(ValueError):
    """The command line cannot be read; the message is getopt's."""


def known(modern: bool) -> list[Option]:
    """The options of a profile."""
    return [*_OPTIONS, _BATCH_JSON] if modern else _OPTIONS


def usage(modern: bool) -> str:
    """The list of options."""
    lines = ["Usage: qaic-runner [options]"]
    for option in known(modern):
        names = ", ".join(f"-{name}" if len(name) == 1 else f"--{name}" for name in option.names)
        lines.append(f"  {names + (f' <{option.value}>' if option.value else ''):<58}{option.text}")
    return "\n".join(lines)


def parse(argv: Sequence[str], modern: bool) -> dict[str, list[str]]:
    """Option key -> the values given to it, in order ("" for one without a value). Raises BadOption."""
    options = known(modern)
    short = {name: option for option in options for name in option.names if len(name) == 1}
    long = {name: option for option in options for name in option.names if len(name) > 1}
    given: dict[str, list[str]] = {}
    words = list(argv)
    while words:
        word = words.pop(0)
        if word == "--":
            break
        if not word.startswith("-") or word == "-":
            continue
        body = word[2:] if word.startswith("--") else word[1:]
        name, equals, value = body.partition("=")
        if word.startswith("--") or len(body) > 1 or body not in short:
            option = _long_option(name, long, word)
            if option is not None:
                if equals and not option.value:
                    raise BadOption(f"option '{word.split('=')[0]}' doesn't allow an argument")
                if option.value and not equals:
                    value = _next(words, f"option '{word}' requires an argument")
                given.setdefault(option.key, []).append(value)
                continue
            if word.startswith("--") or body[0] not in short:
                raise BadOption(f"unrecognized option '{word.split('=')[0]}'")
        _short_options(body, short, words, given)
    return given


def _long_option(name: str, long: dict[str, Option], word: str) -> Option | None:
    """The option of that exact name, or the only one whose name begins so."""
    if name in long:
        return long[name]
    fitting = {long[full].key: long[full] for full in long if name and full.startswith(name)}
    if len(fitting) > 1:
        raise BadOption(f"option '{word.split('=')[0]}' is ambiguous")
    return next(iter(fitting.values()), None)


def _short_options(
    body: str, short: dict[str, Option], words: list[str], given: dict[str, list[str]]
) -> None:
    while body:
        letter, body = body[0], body[1:]
        option = short.get(letter)
        if option is None:
            raise BadOption(f"invalid option -- '{letter}'")
        if not option.value:
            given.setdefault(option.key, []).append("")
            continue
        given.setdefault(option.key, []).append(
            body or _next(words, f"option requires an argument -- '{letter}'")
        )
        return


def _next(words: list[str], complaint: str) -> str:
    if not words:
        raise BadOption(complaint)
    return words.pop(0)


def whole(text: str) -> int:
    """The number at the start of the text, as C's atoi finds it; 0 where there is none."""
    found = re.match(r"\s*[+-]?\d+", text, re.ASCII)
    return int(found[0]) if found else 0
