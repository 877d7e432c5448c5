"""`codelength info`: what a compressed file says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("info")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(file: Path, as_json: bool) -> None:
    """Describe FILE: its items, its size, and the model and machine it needs. Nothing is decoded."""
    from codelength.archive import describe as archives
    from codelength.coding.codec import Archive
    from codelength.coding.describe import describe, lines

    if archives.is_archive_file(file):
        record = {"file": str(file), **archives.describe(file)}
        lines = archives.lines
    else:
        record = {"file": str(file), **describe(Archive(file))}
    if as_json:
        click.echo(json.dumps(record))
    else:
        for line in lines(record):
            click.echo(line)
