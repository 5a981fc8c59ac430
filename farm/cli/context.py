"""What every command shares: settings, the records, and how things are printed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from farm.domain.errors import Unreachable
from farm.domain.text import one_line

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from farm.records import Records

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Farm:
    """The settings of one call. redis_url is what --redis said, else FARM_REDIS_URL; argv what was typed."""

    argv: tuple[str, ...] = ()
    redis_url: str | None = field(default_factory=lambda: os.environ.get("FARM_REDIS_URL") or None)

    @property
    def home(self) -> Path:
        """The folder of this user's farm: FARM_HOME, else in the user's data folder."""
        from farm.worker.places import default_home

        return default_home()

    def url(self) -> str:
        """The URL of the records: as given, else of this machine's farm. Raises Unreachable."""
        if self.redis_url:
            return self.redis_url
        from farm.local.home import discover_url

        url = discover_url(self.home)
        if url is None:
            raise Unreachable(
                "no farm: start one with `farm up` (without cards: `farm up --emulate`),"
                " or name its Redis with --redis or FARM_REDIS_URL"
            )
        return url

    def _up_here(self) -> dict[str, Any] | None:
        """What `farm up` told of this host's farm, when that is the farm this call is about."""
        from farm.local.home import Home

        local = Home(self.home).read_state()
        return local if local and self.redis_url in (None, local["redis_url"]) else None

    def broker_url(self) -> str:
        """The URL of the bells: FARM_BROKER_URL, else that of this machine's farm, else the records'."""
        if named := os.environ.get("FARM_BROKER_URL"):
            return named
        local = self._up_here()
        return str(local["broker_url"]) if local else self.url()

    def store(self) -> Path:
        """The folder of this host's artifacts: as the farm that is up here has it, else FARM_STORE's."""
        from farm.worker.places import Places

        local = self._up_here()
        return Path(local["store"]) if local else Places(self.home).store

    def sdk_root(self) -> Path | None:
        """The SDK root of the farm that is up here, None where none is."""
        local = self._up_here()
        return Path(local["sdk_root"]) if local else None

    def find_sdk(self) -> Path:
        """FARM_SDK_ROOT, else the SDK of the farm that is up here, else the usual one. Raises BadInput."""
        from farm.sdk.root import find_root

        return find_root(None if os.environ.get("FARM_SDK_ROOT") else self.sdk_root())

    def records(self) -> Records:
        """The records of the farm. Raises Unreachable."""
        from farm.records import open_records

        return open_records(self.url(), home=self.home)


pass_farm = click.make_pass_decorator(Farm, ensure=True)


def redis_option(command: F) -> F:
    """--redis: taken before and after the command's name alike."""

    def keep(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
        if value:
            ctx.ensure_object(Farm).redis_url = value

    return click.option(
        "--redis",
        metavar="URL",
        expose_value=False,
        callback=keep,
        help="The farm's Redis (redis, rediss, unix); default FARM_REDIS_URL, else this machine's farm.",
    )(command)


def json_option(command: F) -> F:
    """--json: one JSON document on stdout, nothing else."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


def print_json(document: Any) -> None:
    """The document on stdout."""
    click.echo(json.dumps(document, indent=1, allow_nan=False))


def console() -> Console:
    """A console on stdout; as wide as the terminal, or wide where there is none."""
    from rich.console import Console

    from farm.report.grid import PLAIN_WIDTH

    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)


def show(renderable: RenderableType) -> None:
    """Print a rich renderable on stdout."""
    console().print(renderable)


def note(message: str) -> None:
    """A remark for the human, on stderr."""
    click.echo(f"farm: {one_line(message)}", err=True)
