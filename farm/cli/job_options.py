"""The options of a job on a command line, made from the domain's own list of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

import click

from farm.domain.options import OPTIONS, Option

F = TypeVar("F", bound=Callable[..., Any])

#: What `--help` says of each; the names, ranges and choices are the domain's.
HELP = {
    "task": "Default: the first with a look-up table row, else `default`. `all`: every one with a row.",
    "objectives": "Default best-throughput. Repeat, or separate by commas. `all`: every one with a row.",
    "batch_size": "Samples per inference.",
    "seq_length": "Tokens per sample.",
    "cores": "NSPs per instance.",
    "instances": "Copies of the model on a card (activations); cores x instances must fit the card.",
    "ols": "The compiler's -ols.",
    "mos": "The compiler's -mos; may exceed the cores.",
    "set_size": "Inferences in flight per instance.",
    "extra": "Further compiler arguments in one string; they replace the row's.",
    "opset": "ONNX opset of the export. Default 13.",
    "precision": "Default fp16.",
    "seconds": "Seconds of one run. Default 20.",
    "seed": "For random weights, random heads and inputs. Default 0.",
    "weights": "random: the architecture alone, with weights from the seed; nothing is downloaded.",
    "devices": "The cards that may run it: 0-7, or 0,3, or node.0-3.",
    "repeat": "Run each configuration so many times, spread over the cards. Default 1.",
    "min_cosine": "Outputs less similar than this to the reference's fail. Default 0.99.",
    "route": "Run through the SDK's Python API instead of qaic-runner.",
    "run_only": "Export and compile nothing: what is missing is an error (exit code 2).",
    "trust_remote_code": "Let the model's own Python code run; take pickled weights.",
}
_LISTS = ("wholes", "choices")


class ListsInARow(click.Command):
    """A command without arguments of its own, so that `-m A B` can mean `-m A -m B`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click's, once each value of a list has its option before it."""
        lists = {
            flag
            for option in self.params
            if isinstance(option, click.Option) and option.multiple
            for flag in option.opts
        }
        return super().parse_args(ctx, spread(args, lists))


def spread(words: Sequence[str], lists: Collection[str]) -> list[str]:
    """The words with the option repeated before each further value of those that take lists."""
    found: list[str] = []
    option, values = "", 0
    for word in words:
        if word.startswith("-"):
            option, values = (word if word in lists else ""), 0
        elif option:
            values += 1
            if values > 1:
                found.append(option)
        found.append(word)
    return found


class JobOption(click.ParamType[Any]):
    """A value of a job, read and checked by the domain."""

    def __init__(self, option: Option) -> None:
        self.option = option
        self.name = "|".join(option.choices) or {"whole": "N", "wholes": "N,...", "number": "X"}.get(
            option.kind, option.kind.upper()
        )

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The parsed value; raises BadInput."""
        if not isinstance(value, str):
            return value
        parsed = self.option.parse(value)
        self.option.check(parsed)
        return parsed


def job_options(command: F, *, leave_out: Collection[str] = ()) -> F:
    """Give a command every option of a job; it gets them as keyword arguments named as `Request`'s fields."""
    for option in reversed(OPTIONS):
        if option.field not in leave_out:
            command = _decorator(option)(command)
    return command


def _decorator(option: Option) -> Callable[[F], F]:
    text = HELP[option.field]
    if option.kind == "switch":
        return click.option(option.field, *option.flags, is_flag=True, default=False, help=text)
    return click.option(
        option.field,
        *option.flags,
        type=JobOption(option),
        multiple=option.kind in _LISTS,
        metavar=f"[{'|'.join(option.choices)}]" if option.choices else None,
        help=text,
    )


def given(asked: dict[str, Any]) -> dict[str, Any]:
    """The fields of `Request` that the user named, by field."""
    fields: dict[str, Any] = {}
    for option in OPTIONS:
        value = asked.get(option.field)
        if option.kind == "switch":
            if value:
                fields[option.field] = option.value
        elif option.kind in _LISTS:
            if value:
                fields[option.field] = tuple(dict.fromkeys(each for part in value for each in part))
        elif value is not None:
            fields[option.field] = value
    return fields
