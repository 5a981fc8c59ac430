"""`farm emulator`."""

from __future__ import annotations

from pathlib import Path

import click

from farm.domain.errors import BadInput


@click.group("emulator")
def command() -> None:
    """Write an emulated SDK root: executables and modules that behave as the card's SDK is documented to.

    What runs on it is computed by ONNX Runtime on this machine; its numbers are never a card's.
    """


@command.command("init")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--cards", type=click.IntRange(1, 64), default=8, show_default=True)
@click.option(
    "--timing",
    type=click.Choice(["measured", "modelled"]),
    default="measured",
    show_default=True,
    help="Times as they come, or computed from a model of the card.",
)
@click.option(
    "--sdk",
    type=click.Choice(["1.12", "1.21"]),
    default="1.21",
    show_default=True,
    help="The SDK version to behave like.",
)
@click.option(
    "--scenario",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A JSON file of faults to show.",
)
def init(directory: Path, cards: int, timing: str, sdk: str, scenario: Path | None) -> None:
    """Write the root to DIRECTORY.

    \b
    farm emulator init ./sdk --cards 2
    FARM_SDK_ROOT=$PWD/sdk farm run -m bert-base-cased
    """
    from farm.emulator import BadRoot, write_root

    try:
        write_root(directory.absolute(), cards=cards, timing=timing, sdk=sdk, scenario=scenario)
    except BadRoot as error:
        raise BadInput(str(error)) from error
    click.echo(directory.absolute())
