"""`codelength compress`: data into a file, by a model."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click


@click.command("compress")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, required=True)
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="File to write, such as photos.clen."
)
@click.option("--verify/--no-verify", default=True, help="Decode again and compare before writing (default).")
@click.option("--chunk", default=512, show_default=True, help="Items a chunk; each chunk decodes alone.")
@click.option(
    "--condition",
    "pairs",
    multiple=True,
    metavar="KEY=VALUE|FILE.npy",
    help="What a conditional model is told of the items; data sets bring their own.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON record.")
def command(
    run: Path,
    paths: tuple[str, ...],
    output: Path,
    verify: bool,
    chunk: int,
    pairs: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compress PATH... with the model of RUN.

    PATH is an image, a folder of images, a .npy file, or data:NAME:SPLIT such as data:mnist5k:test. The original pixels,
    names and order come back by `codelength decompress`. The file of a class-conditional model holds the classes too.
    """
    import numpy as np

    from codelength.coding.codec import Archive, compress, load_coder
    from codelength.coding.describe import describe, size_line
    from codelength.coding.files import read_conditions, read_items
    from codelength.errors import CodecError, unknown_name
    from codelength.run import load_run, write_atomically

    opened = load_run(run)
    model, model_sha256 = load_coder(opened)
    items = read_items(paths, opened.space)
    told = read_conditions(pairs, len(items.x))
    for name in told:
        if name not in model.conditioning:
            raise unknown_name(f"condition of {opened.name}:", name, model.conditioning or ["(none)"])
    conditions = {**items.conditions, **told}
    start = time.perf_counter()
    content = compress(
        model,
        items.x,
        conditions=conditions,
        model_sha256=model_sha256,
        name=opened.name,
        layout=items.layout.to_json(),
        chunk=chunk,
        progress=_progress,
    )
    _say(f"encoded {len(items.x)} items in {time.perf_counter() - start:.1f} s")
    archive = Archive(content)
    if verify:
        start = time.perf_counter()
        same = np.array_equal(archive.decode(model, model_sha256=model_sha256), items.x)
        if not (same and all(np.array_equal(v, conditions[k]) for k, v in archive.conditions().items())):
            raise CodecError("the file decodes to other integers than went in; nothing was written. Please report this")
        _say(f"verified in {time.perf_counter() - start:.1f} s: it decodes to the same integers")
    write_atomically(output, content)
    record = {"file": str(output), "verified": verify, **describe(archive)}
    click.echo(json.dumps(record) if as_json else size_line(record))


def _say(text: str) -> None:
    click.echo(text, err=True)


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{done}/{total} items encoded ", err=True, nl=done == total)
