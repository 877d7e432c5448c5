"""`codelength teach modes -o modes.png`: experiments of the tutorial."""

from __future__ import annotations

from pathlib import Path

import click

from codelength.errors import UsageError


@click.command("teach")
@click.argument("experiment", type=click.Choice(["modes"]))
@click.option("-o", "--output", default="modes.png", show_default=True, type=click.Path(dir_okay=False))
@click.option("--steps", type=click.IntRange(1), default=400, show_default=True, help="Training steps of each fit.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of data, noise and networks.")
@click.option("--json", "as_json", is_flag=True, help="Print the fits as JSON.")
def command(experiment: str, output: str, steps: int, seed: int, as_json: bool) -> None:
    """Run an experiment and draw it.

    modes: one Gaussian fitted to three modes under each divergence, and models that are no likelihoods; forward KL covers, reverse
    KL drops. Each fit is judged by all the others, in one table. Takes a minute or two.
    """
    path = Path(output)
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise UsageError(f"--output {output}; wanted a file name that ends in .png, .svg or .pdf")
    import json

    from codelength.divergences import experiment as modes

    fits = modes.run_experiment(steps=steps, seed=seed, talk=lambda line: click.echo(line, err=True))
    modes.draw(fits, path)
    click.echo(json.dumps(modes.to_json(fits), indent=1) if as_json else modes.table(fits))
    click.echo(str(path), err=True)
