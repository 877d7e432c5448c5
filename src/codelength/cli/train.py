"""`codelength train`: train a model from a recipe."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import click

from codelength.errors import UsageError


@click.command("train")
@click.argument("recipe", required=False)
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change a key; the value is YAML.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run; by default runs/RECIPE.")
@click.option("--resume", is_flag=True, help="Go on with the run in the folder; RECIPE may then be left out.")
@click.option("--overfit", type=int, metavar="N", help="Train on the first N data only: does the model memorize them?")
@click.option("--list", "listed", is_flag=True, help="List the recipes that ship, and stop.")
@click.option("--device", help="Such as cpu or cuda; by default a GPU if there is one.")
@click.option(
    "--shard",
    type=click.Choice(["ddp", "fsdp"]),
    default="ddp",
    show_default=True,
    help="Under torchrun: every process holds the whole model (ddp) or a part of each tensor (fsdp).",
)
@click.option(
    "--accumulate",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Compute each batch in so many parts, to save memory; changes round-off only.",
)
@click.option(
    "--recompute",
    is_flag=True,
    help="Compute activations again in the backward pass, to save memory; changes no number.",
)
@click.option("--quiet", is_flag=True, help="Show no progress.")
def command(
    recipe: str | None,
    assignments: tuple[str, ...],
    out: Path | None,
    resume: bool,
    overfit: int | None,
    listed: bool,
    device: str | None,
    shard: Literal["ddp", "fsdp"],
    accumulate: int,
    recompute: bool,
    quiet: bool,
) -> None:
    """Train a model from RECIPE, the name of a recipe that ships or a YAML file.

    The run's folder is printed on stdout. Killed at any moment, --resume goes on where the last checkpoint stands, to
    the same weights.

    On several devices or machines start it with torchrun: the recipe and the run are the same.

    \b
    torchrun --nproc-per-node 2 --max-restarts 3 --no-python codelength train RECIPE --resume
    """
    from codelength.recipe import load_recipe, parse_overrides
    from codelength.run import load_run

    if listed:
        _list()
        return
    overrides = parse_overrides(assignments)
    if recipe is not None:
        chosen = load_recipe(recipe, overrides)
    elif resume and out is not None and not overrides:
        chosen = load_run(out).recipe
    else:
        raise UsageError("train: give a RECIPE (see codelength train --list), or --resume with --out RUN and no --set")
    folder = out if out is not None else Path("runs") / chosen.name

    from codelength.training import Execution, train

    execution = Execution(shard, accumulate, recompute)
    run = train(chosen, folder, resume=resume, overfit=overfit, progress=not quiet, device=device, execution=execution)
    from codelength import distributed

    if not quiet and distributed.is_first():
        print(_summary(run), file=sys.stderr)
    click.echo(str(folder))


def _list() -> None:
    from codelength.recipe import load_recipe, shipped_recipes

    names = shipped_recipes()
    width = max(map(len, names), default=0)
    for name in names:
        click.echo(f"{name:<{width}}  {load_recipe(name).description}".rstrip())


def _summary(run: Any) -> str:
    from codelength.training.progress import describe_cost

    lines = {line["split"]: line for line in run.metrics()}
    end = lines["end"]
    cost = describe_cost(end["nats"], end["bits_per_dim"])
    by = "the training data" if "overfit" in lines else "validation data"
    return (
        f"{run.recipe.name}: {cost} on {by} with the {end['weights']} weights of step {end['selected_step']}, "
        f"{end['parameters']:,} parameters, {end['cpu_seconds']:.1f} CPU-seconds"
    )
