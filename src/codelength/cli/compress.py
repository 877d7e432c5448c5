"""`codelength compress`: data into a file, by a model."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import click


@click.command("compress")
@click.argument("paths", nargs=-1, required=True, metavar="[RUN] PATH...")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="File to write, such as photos.clen."
)
@click.option("--verify/--no-verify", default=True, help="Decode again and compare before writing (default).")
@click.option(
    "--chunk", type=int, help="Items a chunk; each chunk decodes alone [default: 512, of text and audio all in one]."
)
@click.option(
    "--condition",
    "pairs",
    multiple=True,
    metavar="KEY=VALUE|FILE.npy",
    help="What a conditional model is told of the items; data sets bring their own.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Without RUN: a quantized causal_window run to prefer to the models that ship; may be repeated.",
)
@click.option("--embed-model", is_flag=True, help="Without RUN: put the models into the file.")
@click.option("--fast", is_flag=True, help="Without RUN: quick models only, and no comparison of codecs.")
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Processes that code at once, or workers of --engine ray; the number of cores without it. Changes no byte.",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="With RUN: code the chunks in this process, or by the workers of a Ray cluster (extra ray).",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON record.")
def command(
    paths: tuple[str, ...],
    output: Path,
    verify: bool,
    chunk: int | None,
    pairs: tuple[str, ...],
    models: tuple[Path, ...],
    embed_model: bool,
    fast: bool,
    engine: str,
    workers: int | None,
    as_json: bool,
) -> None:
    """Compress PATH..., any files and folders, or data that fit the model of RUN.

    Without RUN images of any size are coded by the models that ship, other files by adaptive ones: pixels of PNG and TIFF files, numbers of
    .npy files and bytes of all others come back.

    With RUN, the folder of a trained model, PATH is an image, a folder of images, a .npy file, or data:NAME:SPLIT such as
    data:mnist5k:test, all of the model's shape; for a model of bytes any files, for one of audio WAV files. The file of a class-conditional model holds the classes too.
    """
    if (Path(paths[0]) / "recipe.yaml").is_file():
        if models or embed_model or fast:
            raise click.UsageError("--model, --embed-model and --fast are for archives, without RUN")
        _compress_with_run(Path(paths[0]), paths[1:], output, verify, chunk, pairs, engine, workers, as_json)
    else:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise click.UsageError("archives are written by one process; start it without torchrun, or give RUN first")
        if engine != "local":
            raise click.UsageError("--engine ray codes with the model of a RUN; give RUN first")
        if pairs:
            raise click.UsageError("--condition is for the model of a RUN; give RUN first")
        options = {"runs": models, "embed": embed_model, "verify": verify, "fast": fast, "workers": workers}
        _compress_any(paths, output, options, as_json)


def _compress_any(paths: tuple[str, ...], output: Path, options: dict[str, Any], as_json: bool) -> None:
    from codelength.archive.describe import describe, size_line
    from codelength.archive.pack import pack

    start = time.perf_counter()
    pack(paths, output, progress=_byte_progress, **options)
    verify = options["verify"]
    _say(f"compressed{' and verified' if verify else ''} in {time.perf_counter() - start:.1f} s")
    record = {"file": str(output), "verified": verify, **describe(output)}
    click.echo(json.dumps(record) if as_json else size_line(record))


def _byte_progress(done: int, total: int, seconds: float) -> None:
    if sys.stderr.isatty():
        rate = done / max(seconds, 1e-9) / 1e6
        click.echo(f"\r{done:,}/{total:,} bytes encoded, {rate:.2f} MB/s ", err=True, nl=done == total)


def _compress_with_run(
    run: Path,
    paths: tuple[str, ...],
    output: Path,
    verify: bool,
    chunk: int | None,
    pairs: tuple[str, ...],
    engine: str,
    workers: int | None,
    as_json: bool,
) -> None:
    import numpy as np
    import torch

    from codelength import distributed
    from codelength.coding.codec import DEFAULT_CHUNK, DEFAULT_THREADS, Archive, batch_of, compress, load_coder
    from codelength.coding.container import MAX_CHUNK_ITEMS
    from codelength.coding.describe import describe, size_line
    from codelength.coding.files import read_conditions, read_items
    from codelength.errors import CodecError, unknown_name
    from codelength.run import load_run, write_atomically

    if not paths:
        raise click.UsageError(f"{run} is a run; give the PATHs to compress with it after it")
    opened = load_run(run)
    model, model_sha256 = load_coder(opened)
    items = read_items(paths, opened.space)
    told = read_conditions(pairs, len(items.x))
    for name in told:
        if name not in model.conditioning:
            raise unknown_name(f"condition of {opened.name}:", name, model.conditioning or ["(none)"])
    conditions = {**items.conditions, **told}
    chunk = chunk or (MAX_CHUNK_ITEMS if items.layout.kind in ("files", "wav") else DEFAULT_CHUNK)
    start = time.perf_counter()
    streams = None
    if engine == "ray":
        from codelength.cluster import ray_streams

        coded = {"items": len(items.x), "chunk": chunk, "batch": batch_of(model, chunk), "threads": DEFAULT_THREADS}
        streams = ray_streams(run, paths, pairs, workers=workers, progress=_progress, **coded)
    content = compress(
        model,
        items.x,
        conditions=conditions,
        model_sha256=model_sha256,
        name=opened.name,
        layout=items.layout.to_json(),
        chunk=chunk,
        workers=workers,
        progress=_progress,
        streams=streams,
    )
    _say(f"encoded {len(items.x)} items in {time.perf_counter() - start:.1f} s")
    archive = Archive(content)
    if verify:
        start = time.perf_counter()
        # Every process of a job decodes its part of the chunks.
        own = slice(*(min(edge * chunk, len(items.x)) for edge in distributed.share(-(-len(items.x) // chunk))))
        different = not np.array_equal(
            archive.decode(model, own, model_sha256=model_sha256, workers=workers), items.x[own]
        )
        same = not distributed.total(torch.tensor(int(different)))
        if not (same and all(np.array_equal(v, conditions[k]) for k, v in archive.conditions().items())):
            raise CodecError("the file decodes to other integers than went in; nothing was written. Please report this")
        _say(f"verified in {time.perf_counter() - start:.1f} s: it decodes to the same integers")
    if not distributed.is_first():
        return
    write_atomically(output, content)
    record = {"file": str(output), "verified": verify, **describe(archive)}
    click.echo(json.dumps(record) if as_json else size_line(record))


def _say(text: str) -> None:
    click.echo(text, err=True)


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{done}/{total} items encoded ", err=True, nl=done == total)
