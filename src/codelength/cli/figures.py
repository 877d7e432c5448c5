"""`codelength figures -o FOLDER`: the guide's figures and the numbers they show."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("figures")
@click.argument("names", nargs=-1)
@click.option("-o", "--output", default="figures", show_default=True, type=click.Path(file_okay=False), help="Folder.")
@click.option(
    "--records", type=click.Path(), help="Folder of trained runs, such as records/; draws the figures of models too."
)
@click.option("--list", "listing", is_flag=True, help="Print the names of the figures.")
def command(names: tuple[str, ...], output: str, records: str | None, listing: bool) -> None:
    """Draw the figures of the guide: all, or those called NAMES.

    Data are those inside packages. What a figure shows in numbers goes to `figures.json` beside it and, as JSON, to stdout.
    """
    from codelength.tutorial.make import all_figures, make_figures

    folder = None if records is None else Path(records)
    if listing:
        click.echo("\n".join(all_figures(folder)))
        return
    click.echo(json.dumps(make_figures(Path(output), names, folder), indent=1, ensure_ascii=False))
