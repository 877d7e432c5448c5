"""`codelength decompress`: the data of a file back."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("decompress")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder to write into.")
@click.option("--run", type=click.Path(path_type=Path), help="Run whose model coded the file.")
@click.option("--items", default=":", show_default=True, help="Which items: 7, 10:20, :5 or 100:.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option(
    "--workers", type=click.IntRange(1), help="Processes that decode at once; the number of cores without it."
)
def command(file: Path, output: Path, run: Path | None, items: str, overwrite: bool, workers: int | None) -> None:
    """Restore the items of FILE: images as PNG, arrays as .npy, other files as they were.

    The file names the model it was coded with; give the run that holds it with --run, unless the model ships with the program
    or is in the file.
    """
    from codelength.archive.describe import is_archive_file
    from codelength.archive.unpack import OpenArchive, unpack
    from codelength.coding.codec import Archive, dtype_of, load_coder
    from codelength.coding.files import write_items
    from codelength.errors import UsageError
    from codelength.run import load_run

    if is_archive_file(file):
        runs = () if run is None else (run,)
        chosen = parse_items(items, len(OpenArchive(file).directory.entries))
        _report(unpack(file, output, chosen, runs=runs, overwrite=overwrite, workers=workers))
        return
    archive = Archive(file)
    header = archive.header
    if run is None:
        raise UsageError(
            f"{file} was coded with the model {header.model_sha256[:16]} of the run {header.model or '(unnamed)'!r} and "
            "does not hold it; give --run RUN"
        )
    model, model_sha256 = load_coder(load_run(run), dtype_of(header))
    chosen = parse_items(items, header.items)
    _report(write_items(archive, model, model_sha256, output, chosen, overwrite=overwrite, workers=workers))


def _report(written: list[Path]) -> None:
    click.echo(f"{len(written)} file{'s' * (len(written) != 1)} written and checked against the hash", err=True)
    for path in written:
        click.echo(str(path))


def parse_items(text: str, count: int) -> slice:
    """The slice that `7`, `10:20`, `:5` or `100:` names among `count` items.

    Raises:
        UsageError: It is of another form, or names items that are not there.
    """
    from codelength.errors import UsageError

    first, colon, last = text.partition(":")
    try:
        start = int(first) if first else 0
        stop = (int(last) if last else count) if colon else start + 1
    except ValueError:
        start, stop = 1, 0
    if not 0 <= start <= stop <= count or (not colon and not first):
        raise UsageError(f"--items {text!r}; wanted A:B with 0 <= A <= B <= {count}, or one number below {count}")
    return slice(start, stop)
