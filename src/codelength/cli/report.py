"""`codelength report RUN... -o report.html`: what runs reach, as one file to look at."""

from __future__ import annotations

from pathlib import Path

import click

from codelength.errors import UsageError


@click.command("report")
@click.argument("runs", nargs=-1, required=True, type=click.Path())
@click.option("-o", "--output", default="report.html", show_default=True, type=click.Path(dir_okay=False))
@click.option("--title", default="codelength report", show_default=True, help="Heading of the page.")
@click.option("--no-codecs", is_flag=True, help="Leave out PNG, WebP, JPEG XL and the like.")
@click.option("--no-pictures", is_flag=True, help="Leave out samples and maps; then no model is run.")
def command(runs: tuple[str, ...], output: str, title: str, no_codecs: bool, no_pictures: bool) -> None:
    """Write one self-contained HTML file on the folders RUN...

    It shows what the records in the runs say; a run without records is measured first with `codelength evaluate`.
    """
    path = Path(output)
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--output {output}; wanted a file name that ends in .html")

    from codelength.report.codecs import measure_codecs
    from codelength.report.collect import collect
    from codelength.report.write import write_groups
    from codelength.run import load_run

    groups = collect([load_run(run) for run in runs])
    codecs = {}
    for group in groups if not no_codecs else ():
        click.echo(f"{group.data}, {group.split}: classical codecs on the same images", err=True)
        codecs[group.key] = measure_codecs(group)
    click.echo(f"drawing {len(runs)} runs", err=True)
    written = write_groups(groups, path, codecs=codecs, title=title, pictures=not no_pictures)
    click.echo(str(written))
