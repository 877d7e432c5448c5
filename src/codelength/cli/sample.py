"""`codelength sample RUN -n 64 -o grid.png`: draw samples from a model."""

from __future__ import annotations

from pathlib import Path

import click

from codelength.errors import UsageError


def parse_conditions(pairs: tuple[str, ...]) -> dict[str, int]:
    """("label=3",) -> {"label": 3}.

    Raises:
        UsageError: A pair has another form.
    """
    conditions = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if not key or not value.strip().lstrip("-").isdigit():
            raise UsageError(f"--condition {pair!r}; wanted key=value with an integer value, such as label=3")
        conditions[key.strip()] = int(value)
    return conditions


@click.command("sample")
@click.argument("run", type=click.Path())
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=64, show_default=True, help="Number of samples.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), required=True, help="PNG file to write.")
@click.option(
    "--temperature", type=click.FloatRange(0, 10), default=1.0, show_default=True, help="Below 1 draws likelier values."
)
@click.option("--condition", "pairs", multiple=True, metavar="KEY=VALUE", help="Condition of the model.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the draw.")
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
    rows: int | None,
    columns: int | None,
    scale: int,
) -> None:
    """Draw samples from the model of the folder RUN and write them as a grid of images.

    Samples are drawn at random with the seed, never chosen: the grid is in drawing order.
    """
    conditions = parse_conditions(pairs)
    path = Path(output)
    if path.suffix.lower() != ".png":
        raise UsageError(f"--output {output}; wanted a file name that ends in .png")

    from codelength.report.draw import draw_samples
    from codelength.report.images import enlarge, png_bytes, tile, to_pixels
    from codelength.run import load_run, write_atomically

    trained = load_run(run)
    given = None
    if rows is not None:
        from codelength.report.collect import load_run_data

        split = load_run_data(trained).split("test")
        if len(split) < count:
            raise UsageError(f"-n {count} with --given, but there are {len(split)} test data; ask for at most so many")
        given = split.batch(slice(0, count))
    model = trained.load_model()
    samples = draw_samples(
        model, count, seed=seed, temperature=temperature, conditions=conditions, given=given, rows=rows or 0
    )
    pixels = to_pixels(samples.numpy(), trained.space)
    write_atomically(path, png_bytes(enlarge(tile(pixels, columns), scale)))
    click.echo(f"{count} samples of {trained.name} (seed {seed}, temperature {temperature:g})", err=True)
    click.echo(str(path))
