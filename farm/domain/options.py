"""What a user may ask for: the options of a job, their names, kinds and ranges, and the request they make."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from farm.domain.errors import BadInput
from farm.domain.job import OBJECTIVES, TASKS, Route
from farm.domain.names import show

PRECISIONS = ("fp16",)
ROUTES: tuple[Route, ...] = get_args(Route)
#: Stands for every task or objective that has a row in the look-up table.
ALL = "all"

#: A whole number, also as a spreadsheet writes it ("2.0"), of at most nine digits.
_WHOLE = re.compile(r"([+-]?[0-9]{1,9})(?:\.0*)?")
_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(?:\.[0-9]{0,20})?")
_DEVICES = re.compile(r"(?:device\.)?(?:([A-Za-z0-9][A-Za-z0-9_-]*)\.)?([0-9]{1,4})(?:-([0-9]{1,4}))?")

Kind = Literal["whole", "wholes", "number", "text", "choice", "choices", "switch", "devices"]


@dataclass(frozen=True)
class Option:
    """An option of a job: the field of `Request` it fills, its flags, and what it takes.

    low and high bound whole and other numbers (None: no bound); value is what a switch sets.
    The plural kinds take comma-separated lists and may be repeated.
    """

    field: str
    flags: tuple[str, ...]
    kind: Kind
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    value: object = True

    def parse(self, text: str) -> Any:
        """The option's value as `Request` holds it. Raises BadInput for text that is no such value."""
        name = self.flags[0]
        if self.kind == "whole":
            return parse_whole(name, text)
        if self.kind == "wholes":
            return tuple(parse_whole(name, part) for part in text.split(","))
        if self.kind == "number":
            return _parse_number(name, text)
        if self.kind == "choices":
            return tuple(part.strip() for part in text.split(","))
        if self.kind == "devices":
            return parse_devices(text)
        return text.strip() if self.kind == "choice" else text

    def check(self, value: Any) -> None:
        """Raise BadInput when a value (of `Request`, not None) is of a wrong type or not allowed."""
        for each in value if self.kind in ("wholes", "choices") else (value,):
            self._check_one(each)

    def _check_one(self, value: object) -> None:
        name = self.flags[0]
        if self.choices:
            if value not in self.choices:
                raise BadInput(f"{name} {show(value)} is not known; choose {one_of(self.choices)}")
        elif self.kind in ("whole", "wholes", "number"):
            types = (int, float) if self.kind == "number" else (int,)
            if not isinstance(value, types) or isinstance(value, bool):
                raise BadInput(f"{name} {show(value)} is not a number")
            if not (self.low is None or value >= self.low) or not (self.high is None or value <= self.high):
                raise BadInput(f"{name} {value} is out of range; allowed: {span(self.low, self.high)}")


#: Every option a job has, by the names the SDK's single-model script gives them, and the farm's own.
OPTIONS: tuple[Option, ...] = (
    Option("task", ("--task", "-t"), "choice", choices=(*TASKS, ALL)),
    Option("objectives", ("--objective", "-o"), "choices", choices=(*OBJECTIVES, ALL)),
    Option("batch_size", ("--batch-size", "-b"), "wholes", low=1, high=4096),
    Option("seq_length", ("--seq-length", "-s"), "wholes", low=1, high=65536),
    Option("cores", ("--cores", "-c"), "wholes", low=1),
    Option("instances", ("--instances", "-i"), "wholes", low=1),
    Option("ols", ("--ols",), "whole", low=1),
    Option("mos", ("--mos",), "whole", low=1),
    Option("set_size", ("--set-size",), "wholes", low=1, high=10),
    Option("extra", ("--extra",), "text"),
    Option("opset", ("--opset",), "whole", low=7, high=20),
    Option("precision", ("--precision",), "choice", choices=PRECISIONS),
    Option("seconds", ("--time",), "whole", low=1, high=86400),
    Option("seed", ("--seed",), "whole", low=0, high=2**32 - 1),
    Option("weights", ("--weights",), "choice", choices=("hub", "random")),
    Option("devices", ("--devices", "--device", "-d"), "devices"),
    Option("repeat", ("--repeat",), "whole", low=1, high=1000),
    Option("min_cosine", ("--min-cosine",), "number", low=0, high=1),
    Option("route", ("--api-run", "-a"), "switch", choices=ROUTES, value="api"),
    Option("run_only", ("--run-only", "-r"), "switch"),
    Option("trust_remote_code", ("--trust-remote-code",), "switch"),
)
BY_FIELD: dict[str, Option] = {option.field: option for option in OPTIONS}
BY_FLAG: dict[str, Option] = {flag: option for option in OPTIONS for flag in option.flags}


@dataclass(frozen=True)
class Request:
    """What a user asks for; None where nothing was said. Lists multiply: a job for each combination.

    models are names as the user writes them; task may be `all`, objectives hold `all`. extra is compiler
    arguments as one would type them in a shell, "" for none. weights: random or hub, None to take what the
    model has. repeat is how many times each job runs. whole_list: models is a list nobody typed, so one of
    them that cannot work is kept and fails by itself.
    """

    models: tuple[str, ...]
    objectives: tuple[str, ...] | None = None
    task: str | None = None
    batch_size: tuple[int, ...] | None = None
    seq_length: tuple[int, ...] | None = None
    cores: tuple[int, ...] | None = None
    instances: tuple[int, ...] | None = None
    set_size: tuple[int, ...] | None = None
    ols: int | None = None
    mos: int | None = None
    extra: str | None = None
    precision: str | None = None
    opset: int | None = None
    seconds: int | None = None
    seed: int | None = None
    weights: str | None = None
    route: str = "runner"
    repeat: int = 1
    min_cosine: float | None = None
    trust_remote_code: bool = False
    run_only: bool = False
    devices: tuple[str, ...] | None = None
    whole_list: bool = False

    def check(self) -> None:
        """Raise BadInput for the first value that no card, model or table could make right."""
        if not self.models:
            raise BadInput("no model named; give -m NAME, --models-file, --all-models or --listed")
        for option in OPTIONS:
            value = getattr(self, option.field)
            if value is not None and (option.choices or option.kind != "switch"):
                option.check(value)
            if value == ():
                raise BadInput(f"{option.flags[0]} names no value; leave it out or give one")


def parse_whole(name: str, text: str) -> int:
    """A whole number; `name` is for the message."""
    match = _WHOLE.fullmatch(text.strip())
    if not match:
        raise BadInput(f"{name} {show(text)} is not a whole number")
    return int(match[1])


def _parse_number(name: str, text: str) -> float:
    if not _NUMBER.fullmatch(text.strip()):
        raise BadInput(f"{name} {show(text)} is not a number")
    return float(text)


def parse_devices(text: str) -> tuple[str, ...]:
    """The cards that `0-7`, `0,3` or `node.0-3` name: QIDs, with their node where one is given."""
    found: dict[str, None] = {}
    for part in text.split(","):
        match = _DEVICES.fullmatch(part.strip())
        if not match:
            raise BadInput(f"--devices {show(text)}: {show(part)} is no device; use QIDs such as 0-7 or 0,3")
        node, first, last = match[1], int(match[2]), int(match[3] or match[2])
        if last < first:
            raise BadInput(f"--devices {show(text)}: {first}-{last} runs backwards")
        found |= {f"{node}.{qid}" if node else str(qid): None for qid in range(first, last + 1)}
    return tuple(found)


def split_extra(text: str) -> tuple[str, ...]:
    """Compiler arguments split as a shell would; nothing is ever expanded or run."""
    if not text.isprintable():
        raise BadInput(f"extra arguments {show(text)} hold a control character")
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise BadInput(f"extra arguments {show(text)} cannot be split: {error}") from None


def one_of(choices: Iterable[str]) -> str:
    """Choices for a message: `a, b or c`."""
    *most, last = choices
    return f"{', '.join(most)} or {last}" if most else last


def span(low: float | None, high: float | None) -> str:
    """A range for a message: `1 to 10`, `1 or more`."""
    if low is not None and high is not None:
        return f"{low} to {high}"
    return f"{low} or more" if high is None else f"at most {high}"
