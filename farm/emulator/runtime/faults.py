"""What a scenario may ask for: the faults of each tool, the choices where the SDK is not known.

Source: docs/sdk.md, "failure scenarios" and "what could not be established".
"""

from __future__ import annotations

from typing import Any

#: Rules for `compiler` count for both of its programs.
GROUPS = {"qaic-exec": "compiler", "qaic-compile": "compiler"}

#: How any of the tools, or a call into the Python modules, can go wrong.
_PROCESS: dict[str, tuple[str, ...]] = {
    "slow": (
        "seconds",
        "factor",
    ),  # starts that much later; takes that many times longer (an inference, a compile)
    "hang": (),  # says nothing more and never ends
    "ignore-sigterm": (),  # only SIGKILL ends it
    "killed": ("signal",),  # ends by that signal (default 9), as under the kernel's memory killer
    "fail": ("status", "text"),  # ends with that status (default 255), the text on stderr
}

#: Fault -> parameters it takes, for each tool. `card` faults are met by whichever tool looks at the card.
FAULTS: dict[str, dict[str, tuple[str, ...]]] = {
    "compiler": {
        **_PROCESS,  # `fail` and `killed` come after the output directory was made
        "silent": (),  # exits 0 but writes no program
        "truncated": (),  # exits 0, half a program
        "memory": ("mb", "seconds"),  # holds that much memory for that long (default: to the end)
        "underflow": ("count",),  # that many more underflow warnings
        "unsupported-operator": ("operator",),
        "disk-full": (),
    },
    "qaic-runner": {
        **_PROCESS,
        "no-stats": (),  # exits 0 without its Stats lines
        "rate-inconsistent": ("factor",),  # Inf/Sec is not count x batch / duration
        "not-ready": (),  # the card leaves Ready during the run
        "vanish": (),  # the card disappears during the run
        "timeout": (),  # IOCTL: Connection timed out, during the run
        "latency-missing": (),
        "latency-empty": (),
        "latency-five-headers": (),  # five preamble lines instead of four
        "latency-stale": (),  # files of an earlier run, left as they are
        "latency-fewer": ("files",),  # fewer files than activations (default 1)
        "output-missing": (),
        "output-short": (),  # the last output file is cut
        "output-nan": (),
        "output-wrong": (),  # unrelated values
        "output-swapped": (),  # two outputs in each other's file
        "output-bad-sample": ("sample",),  # one sample of the batch is wrong (default the last)
    },
    "api": {
        **_PROCESS,
        "import-error": (),  # the module was built for another Python
        "output-nan": (),
        "output-wrong": (),
        "output-swapped": (),
        "output-bad-sample": ("sample",),
    },
    "qaic-util": {
        **_PROCESS,
        "absent": (),  # as when the file is not there: status 127
        "permission": (),  # the user is not in group qaic: Status:Error everywhere
    },
    "card": {
        "status": ("status",),  # Initializing, Error (default) or Unknown
        "vanish": (),  # the card is gone and later QIDs move down
        "tenant": ("nsp",),  # somebody else holds that many cores (default all)
        "activate-nsp": (),  # activation is refused for want of cores ...
        "activate-memory": (),  # ... of memory
        "activate-vc": (),  # ... of virtual channels
        "nsp-lag": ("seconds",),  # the cores stay taken that long after their user has gone
    },
}

#: Choice -> allowed values, the first being the default; None stands for "as the SDK profile has it".
OPTIONS: dict[str, tuple[Any, ...]] = {
    "latency_numbering": (None, "zero", "one", "all-into-zero"),
    "latency_tail": ("light", "heavy"),  # p95/mean of modelled rows about 1.02 or 1.3
    "stats_position": ("before-files", "after-files"),
    "iterations_count": ("total", "per-activation"),  # what -n counts
    "rate_convention": ("executions", "samples"),  # what run_benchmark's rate counts
    "time_unit": ("seconds", "microseconds"),  # of run_benchmark's time
    "completed_waits": (True, False),  # whether getCompleted and getCompletedId wait, or answer QS_AGAIN
    "compiler_makes_parents": (False, True),
    "strict_symbols": (False, True),  # refuse -onnx-define-symbol of a symbol the graph lacks
    "repeated_flag": ("last", "first", "error"),  # a single-valued compiler flag given twice
    "dram_unit": (None, "KB", "MB"),
    "frequency_decimals": (None, False, True),
    "extra_fields": (False, True),  # qaic-util prints fields nobody knows
    "telemetry": (True, False),  # False: as in a virtual machine, no temperature and power
}

#: Facts of a card that a scenario may change.
CARD_FACTS = {"qid", "nsp_total", "dram_mb", "sku", "serial", "hw_serial", "pci", "tdp_w", "mhi", "dev_link"}

_RULE_KEYS = {"tool", "fault", "qid", "nth", "after", "times"}


class BadScenario(ValueError):
    """The scenario asks for what the emulator does not know; one line."""


def check(scenario: object, origin: str) -> dict[str, Any]:
    """The scenario itself when it is well formed, else BadScenario naming `origin` and the offence."""
    if not isinstance(scenario, dict):
        raise BadScenario(f"{origin}: a scenario is a JSON object")
    if unknown := set(scenario) - {"rules", "options", "cards", "comment"}:
        raise BadScenario(f"{origin}: unknown key {min(unknown)!r}: use rules, options, cards or comment")
    for name, value in _mapping(scenario.get("options", {}), origin, "options").items():
        if name not in OPTIONS:
            raise BadScenario(f"{origin}: unknown option {name!r}: use one of {', '.join(OPTIONS)}")
        if not any(
            value is allowed or (value == allowed and type(value) is type(allowed))
            for allowed in OPTIONS[name]
        ):
            raise BadScenario(f"{origin}: option {name}={value!r} must be one of {OPTIONS[name]}")
    for card in _listed(scenario.get("cards", []), origin, "cards"):
        if not isinstance(card.get("qid"), int) or not set(card) <= CARD_FACTS:
            raise BadScenario(f"{origin}: card {card} needs a qid and takes only {sorted(CARD_FACTS)}")
    for rule in _listed(scenario.get("rules", []), origin, "rules"):
        _check_rule(rule, origin)
    return scenario


def _check_rule(rule: dict[str, Any], origin: str) -> None:
    tool, fault = rule.get("tool"), rule.get("fault")
    known = FAULTS.get(GROUPS.get(str(tool), str(tool)))
    if known is None:
        raise BadScenario(f"{origin}: unknown tool {tool!r}: use one of {', '.join([*FAULTS, *GROUPS])}")
    if fault not in known:
        raise BadScenario(f"{origin}: {tool} has no fault {fault!r}: use one of {', '.join(known)}")
    if unknown := set(rule) - _RULE_KEYS - set(known[fault]):
        raise BadScenario(f"{origin}: {tool} {fault} takes no {min(unknown)!r}")
    for key in ("qid", "after", "times"):
        if not isinstance(rule.get(key, 0), int):
            raise BadScenario(f"{origin}: {key} of {tool} {fault} must be a whole number")
    nth = rule.get("nth", [])
    if not isinstance(nth, int) and not (isinstance(nth, list) and all(isinstance(n, int) for n in nth)):
        raise BadScenario(f"{origin}: nth of {tool} {fault} must be a call number or a list of them")


def _mapping(value: object, origin: str, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadScenario(f"{origin}: {key} must be an object")
    return value


def _listed(value: object, origin: str, key: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise BadScenario(f"{origin}: {key} must be a list of objects")
    return value
