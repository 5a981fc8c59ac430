"""`farm results`."""

from __future__ import annotations

from pathlib import Path

import click

from farm.cli.context import Farm, json_option, note, pass_farm, redis_option, show
from farm.domain.errors import BadInput

FORMATS = ("table", "csv", "json", "md", "parquet", "lut")


@click.command("results")
@click.argument("campaign", required=False)
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
@redis_option
@json_option
@pass_farm
def command(farm: Farm, campaign: str | None, form: str, output: Path | None, as_json: bool) -> None:
    """Print a campaign's results; every number says where it comes from.

    Without CAMPAIGN: the latest one. `lut` writes look-up table rows, the best configuration of each model,
    task and objective; only what a card measured carries figures there. `parquet` needs -o.

    \b
    farm results
    farm results --format csv -o results.csv
    farm results 20250301-0912-a1b2 --format lut -o my_lut.csv
    """
    from farm.report import results as render

    form = "json" if as_json else form
    if form == "parquet" and output is None:
        raise BadInput("parquet is not text: name a file with -o")
    records = farm.records()
    found = [] if campaign is None and records.latest() is None else records.results(campaign)
    for slow in render.slow_notes(found):
        note(slow)
    if form == "table" and output is None:
        if found:
            show(render.results_grid(found).rich())
        else:
            note("no result yet; farm submit -m MODEL makes one")
        return
    if form == "parquet":
        assert output is not None
        render.write_parquet(found, output)
        return
    text = render.render(found, form)
    if output is None:
        click.echo(text, nl=False)
    else:
        try:
            output.write_text(text)
        except OSError as error:
            raise BadInput(f"cannot write {output}: {error.strerror}") from error
