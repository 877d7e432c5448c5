"""`codelength latents RUN VIEW -o grid.png`: what the latents of a model do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from codelength.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from codelength.models.latent.base import LatentModel
    from codelength.run import Run

VIEWS = ("reconstruct", "interpolate", "do", "steps", "use")


@click.command("latents")
@click.argument("run", type=click.Path())
@click.argument("view", type=click.Choice(VIEWS))
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="PNG file to write (all views but use).")
@click.option("-n", "count", type=click.IntRange(2, 1000), default=8, show_default=True, help="Data, or rows.")
@click.option("--latent", help="Latent of do: a layer, or one unit such as z[3].")
@click.option("--values", default="-3,-2,-1,0,1,2,3", show_default=True, help="Values of do, a column each.")
@click.option("--split", type=click.Choice(["validation", "test"]), default="validation", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of data and draws.")
@click.option("--scale", type=click.IntRange(1, 32), default=2, show_default=True, help="Enlargement.")
def command(
    run: str,
    view: str,
    output: str | None,
    count: int,
    latent: str | None,
    values: str,
    split: str,
    seed: int,
    scale: int,
) -> None:
    """Show what latents do.

    reconstruct: data, each beside what its latents give. interpolate: rows between pairs of data. do: a latent set to each of
    several values, the rest drawn from the model. steps: DRAW's canvas step by step. use: KL and active units of each layer.
    """
    from codelength.report.latents import latent_model
    from codelength.run import load_run

    trained = load_run(run)
    model = latent_model(trained.load_model(), trained.name)
    if view == "use":
        _print_use(trained, model, split, max(count, 200), seed)
        return
    if output is None or Path(output).suffix.lower() != ".png":
        got = "no file to draw into" if output is None else f"-o {output}"
        raise UsageError(f"{got}; wanted -o and a file name that ends in .png")
    pictures, columns = _pictures(trained, model, view, count, latent, values, split, seed)

    from codelength.report.images import enlarge, png_bytes, tile, to_pixels
    from codelength.run import write_atomically

    sheet = tile(to_pixels(pictures.cpu().numpy(), trained.space), columns)
    write_atomically(Path(output), png_bytes(enlarge(sheet, scale)))
    click.echo(output)


def _pictures(
    trained: Run, model: LatentModel, view: str, count: int, latent: str | None, values: str, split: str, seed: int
) -> tuple[Tensor, int]:
    """The images of a view, (N, C, H, W), and how many stand in a row."""
    from codelength.report import latents

    if view == "do":
        if latent is None:
            raise UsageError(
                f"do wants --latent; the layers are {', '.join(model.layers)}, a unit is {next(iter(model.layers))}[0]"
            )
        numbers = _numbers(values)
        return latents.interventions(model, latent, numbers, count, seed), len(numbers)
    if view == "steps":
        return latents.drawing_steps(model, count, seed)
    x = _data(trained, split, count, seed).to(model.device)
    if view == "reconstruct":
        return latents.reconstructions(model, x, seed), 8
    return latents.interpolations(model, x, 8, seed), 8


def _numbers(values: str) -> list[float]:
    try:
        return [float(value) for value in values.split(",")]
    except ValueError:
        raise UsageError(f"--values {values!r}; wanted numbers with commas between, such as -2,0,2") from None


def _data(trained: Run, split: str, count: int, seed: int) -> Tensor:
    """A seeded sample of the run's own data."""
    import numpy as np

    from codelength.evaluation.sample import choose_examples
    from codelength.report.collect import load_run_data

    chosen = load_run_data(trained).split(split)
    indices = choose_examples(chosen, count, seed)
    return chosen.batch(np.arange(len(chosen)) if indices is None else indices)


def _print_use(trained: Run, model: LatentModel, split: str, count: int, seed: int) -> None:
    from codelength.evaluation.latents import use_of_layers

    click.echo("layer\tKL (nats)\tactive\tunits\taggregate std")
    for use in use_of_layers(model, _data(trained, split, count, seed).to(model.device), seed=seed):
        spread = f"{use.noise_std.min():.2f}..{use.noise_std.max():.2f}"
        click.echo(f"{use.layer}\t{use.kl:.3f}\t{use.active}\t{use.units}\t{spread}")
