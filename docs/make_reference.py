"""Print docs/commands.md: the help of every command, as the commands themselves tell it."""

from __future__ import annotations

from collections.abc import Iterator

import click

from farm.cli.main import cli


def helps(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    """The command's path and help, then those of its subcommands."""
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None:
                yield from helps(found, click.Context(found, info_name=name, parent=context))


def main() -> None:
    """Print the page."""
    print("# Commands\n\nMade by `make docs` from the commands' own help.")
    root = click.Context(cli, info_name="farm", max_content_width=110, terminal_width=110)
    for path, text in helps(cli, root):
        print(f"\n## {path}\n\n```\n{text}\n```")


if __name__ == "__main__":
    main()
