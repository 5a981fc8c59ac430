"""Parse a command line as `farm` would, without calling anything."""

from __future__ import annotations

from collections.abc import Sequence

import click

from farm.cli.main import cli


def parse(words: Sequence[str]) -> None:
    """Raise click.UsageError, or BadInput for a job option's value, unless `farm WORDS` is a command line."""
    command: click.Command = cli
    context = click.Context(cli, info_name="farm")
    rest = list(words)
    while isinstance(command, click.Group):
        rest = click.Command.parse_args(command, context, rest)
        if not rest:
            return
        _, found, rest = command.resolve_command(context, rest)
        assert found is not None
        context = click.Context(found, info_name=found.name, parent=context)
        command = found
    command.parse_args(context, rest)
