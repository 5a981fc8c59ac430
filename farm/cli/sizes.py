"""The options that bound a farm's memory and disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from farm.domain.errors import BadInput
from farm.domain.sizes import parse_size

F = TypeVar("F", bound=Callable[..., Any])


class Size(click.ParamType[str]):
    """A size as people write it; the value stays the text, so that it can be handed on."""

    name = "size"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text, once it is known to be a size."""
        try:
            parse_size(value, param.opts[0] if param else "size")
        except BadInput as error:
            self.fail(str(error), param, ctx)
        return value


def limit_options(command: F) -> F:
    """--store-limit and --memory-limit; given to the workers as FARM_STORE_LIMIT and FARM_MEMORY_LIMIT."""
    for option in (
        click.option(
            "--memory-limit",
            type=Size(),
            metavar="SIZE",
            envvar="FARM_MEMORY_LIMIT",
            help="What this host's exports, references and compiles may take together; default 60 % of it.",
        ),
        click.option(
            "--store-limit",
            type=Size(),
            metavar="SIZE",
            envvar="FARM_STORE_LIMIT",
            help="Disk for artifacts; what no unfinished job needs makes way. Default: half of what is free.",
        ),
    ):
        command = option(command)
    return command


def limits(store_limit: str | None, memory_limit: str | None) -> dict[str, str]:
    """The limits that were given, as the workers' environment has them."""
    given = {"FARM_STORE_LIMIT": store_limit, "FARM_MEMORY_LIMIT": memory_limit}
    return {name: value for name, value in given.items() if value}
