"""`codelength sample RUN -n 64 -o grid.png`: draw samples from a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from codelength.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from codelength.data.dataset import Split
    from codelength.models.base import LikelihoodModel
    from codelength.run import Run


def parse_conditions(pairs: tuple[str, ...]) -> dict[str, list[int]]:
    """("label=3",) -> {"label": [3]}, ("label=0,1",) -> {"label": [0, 1]}.

    Raises:
        UsageError: A pair has another form.
    """
    conditions = {}
    for pair in pairs:
        key, _, values = pair.partition("=")
        if not key or not all(value.strip().lstrip("-").isdigit() for value in values.split(",")):
            raise UsageError(
                f"--condition {pair!r}; wanted key=value with an integer value, such as label=3, or several that take "
                "turns, such as label=0,1,2"
            )
        conditions[key.strip()] = [int(value) for value in values.split(",")]
    return conditions


@click.command("sample")
@click.argument("run", type=click.Path())
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=64, show_default=True, help="Number of samples.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False), required=True, help="PNG file to write, of text a .txt file."
)
@click.option(
    "--temperature", type=click.FloatRange(0, 10), default=1.0, show_default=True, help="Below 1 draws likelier values."
)
@click.option(
    "--condition", "pairs", multiple=True, metavar="KEY=VALUE[,VALUE...]", help="Condition; several values take turns."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the draw.")
@click.option(
    "--complete",
    is_flag=True,
    help="Keep the upper half of test data and draw the rest; the grid pairs each with its original.",
)
@click.option("--given", "rows", type=click.IntRange(1), help="Keep the first ROWS rows of test data, draw the rest.")
@click.option("--columns", type=click.IntRange(1), help="Samples a row [default: the root of their number].")
@click.option("--scale", type=click.IntRange(1, 32), default=1, show_default=True, help="Enlargement.")
def command(
    run: str,
    count: int,
    output: str,
    temperature: float,
    pairs: tuple[str, ...],
    seed: int,
    complete: bool,
    rows: int | None,
    columns: int | None,
    scale: int,
) -> None:
    """Draw samples from the model of the folder RUN and write them as a grid of images, or as text.

    Samples are drawn at random with the seed, never chosen: the grid is in drawing order. With --complete original and
    completion stand side by side; a conditional model is told the original's own class unless --condition says another.
    """
    conditions = parse_conditions(pairs)
    path = Path(output)
    if path.suffix.lower() not in (".png", ".txt"):
        raise UsageError(f"--output {output}; wanted a file name that ends in .png, of text in .txt")

    from codelength import distributed
    from codelength.report.draw import draw_samples
    from codelength.report.images import enlarge, png_bytes, tile, to_pixels
    from codelength.run import load_run, write_atomically

    trained = load_run(run)
    wanted = {"image": ".png", "sequence": ".txt"}.get(trained.space.kind)
    if path.suffix.lower() != wanted:
        raise UsageError(
            f"--output {output}: {trained.name} models data of kind {trained.space.kind!r}; "
            + ("these cannot be drawn" if wanted is None else f"wanted a file name that ends in {wanted}")
        )
    model = trained.load_model()
    if wanted == ".txt":
        if complete or rows is not None:
            raise UsageError(f"{trained.name} models text; only images have rows to keep")
        drawn = draw_samples(model, count, seed=seed, temperature=temperature, conditions=conditions)
        if not distributed.is_first():
            return
        write_atomically(path, _texts(trained, drawn.numpy()))
        click.echo(f"{count} samples of {trained.name} (seed {seed}, temperature {temperature:g})", err=True)
        click.echo(str(path))
        return
    kept = _kept_rows(trained, complete, rows)
    originals = _originals(trained, count) if kept else None
    samples = draw_samples(
        model,
        count,
        seed=seed,
        temperature=temperature,
        conditions=_told(model, conditions, originals),
        given=None if originals is None else originals.batch(slice(None)),
        rows=kept,
    ).numpy()
    pixels = to_pixels(samples, trained.space)
    if complete and originals is not None:
        pixels = _side_by_side(to_pixels(originals.x, trained.space), pixels)
        columns = None if columns is None else 2 * columns
    content = png_bytes(enlarge(tile(pixels, columns or _even_columns(len(pixels), complete)), scale))
    if not distributed.is_first():
        return
    write_atomically(path, content)
    what = f"completions below row {kept}" if kept else "samples"
    click.echo(f"{count} {what} of {trained.name} (seed {seed}, temperature {temperature:g})", err=True)
    click.echo(str(path))


def _texts(trained: Run, tokens: np.ndarray) -> bytes:
    """Samples of tokens as text, each under a line with its number; an end of text is a line of its own."""
    import numpy as np

    from codelength.data.vocabulary import Bytes, Vocabulary
    from codelength.report.collect import load_run_data

    found = Bytes() if trained.space.channels == ("byte",) else load_run_data(trained).vocabulary
    if found is None:
        raise UsageError(f"{trained.name}: the run's data have no vocabulary, so its tokens are no text")
    vocabulary: Vocabulary = found
    end = vocabulary.size if vocabulary.end is None else vocabulary.end
    parts = []
    for i, sample in enumerate(tokens):
        parts.append(f"--- sample {i + 1}\n".encode())
        pieces = np.split(sample, np.flatnonzero(sample == end))
        parts.append(b"\n--- end of text\n".join(vocabulary.decode(piece[piece != end]) for piece in pieces) + b"\n")
    return b"".join(parts)


def _kept_rows(trained: Run, complete: bool, rows: int | None) -> int:
    """How many upper rows of the test data are kept; 0 where nothing is completed."""
    if not complete and rows is None:
        return 0
    if trained.space.kind != "image":
        raise UsageError(f"{trained.name} models data of kind {trained.space.kind!r}; only images have rows to keep")
    height = trained.space.sizes[1]
    kept = height // 2 if rows is None else rows
    if not 1 <= kept <= height:
        raise UsageError(f"{kept} rows kept of images of {height}; give --given 1..{height}")
    return kept


def _originals(trained: Run, count: int) -> Split:
    """The first `count` test data with their conditions."""
    from codelength.data.dataset import Split
    from codelength.report.collect import load_run_data

    split = load_run_data(trained).split("test")
    if len(split) < count:
        raise UsageError(f"-n {count} to complete, but there are {len(split)} test data; ask for at most so many")
    return Split(split.x[:count], conditions={name: values[:count] for name, values in split.conditions.items()})


def _told(
    model: LikelihoodModel, conditions: dict[str, list[int]], originals: Split | None
) -> dict[str, Sequence[int]]:
    """The conditions as given; those that are not, from the data to complete."""
    own = {} if originals is None else {name: originals.conditions.get(name) for name in model.conditioning}
    return {**{name: values.tolist() for name, values in own.items() if values is not None}, **conditions}


def _side_by_side(originals: np.ndarray, completions: np.ndarray) -> np.ndarray:
    """original, completion, original, completion, ..., (2 N, H, W, C)."""
    import numpy as np

    return np.stack([originals, completions], axis=1).reshape(-1, *originals.shape[1:])


def _even_columns(count: int, pairs: bool) -> int | None:
    """Columns of a grid of pairs: even, so that no pair is torn apart."""
    if not pairs:
        return None
    import math

    return 2 * math.ceil(math.sqrt(count) / 2)
