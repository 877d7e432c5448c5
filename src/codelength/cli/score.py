"""`codelength score RUN PATH`: which data surprise a model, with p-values."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codelength.errors import UsageError

if TYPE_CHECKING:
    from codelength.anomaly import Calibration, Scored
    from codelength.data.dataset import Split
    from codelength.evaluation.estimate import Progress
    from codelength.models.base import LikelihoodModel
    from codelength.run import Run


@click.command("score")
@click.argument("run", type=click.Path())
@click.argument("path")
@click.option(
    "--by", default="joint", show_default=True, help="Score that ranks and flags; `regret` for latent models."
)
@click.option(
    "--false-positive-rate",
    "rate",
    type=float,
    default=0.01,
    show_default=True,
    help="Flag items whose p-value is at most this: at most such a share of clean items is flagged.",
)
@click.option(
    "--background",
    default="context_table",
    show_default=True,
    metavar="RUN|context_table|none",
    help="Background model of the score `ratio`.",
)
@click.option("--split", default="test", show_default=True, help="Split, where PATH names a data set.")
@click.option(
    "--calibration", "count", type=click.IntRange(20), default=2000, show_default=True, help="Validation data."
)
@click.option("--samples", type=click.IntRange(1), help="Samples K of a bound; the recipe's by default.")
@click.option("--seed", type=int, default=0, show_default=True, help="Chooses calibration data and noise.")
@click.option(
    "--top", type=click.IntRange(1), default=20, show_default=True, help="Rows of the table, items of the page."
)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False), help="HTML page of the most surprising items to write."
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Measure in this process, or by the workers of a Ray cluster (extra ray).",
)
@click.option("--workers", type=click.IntRange(1), help="Workers of --engine ray; one a CPU by default.")
@click.option("--json", "as_json", is_flag=True, help="Print every item with all scores as JSON.")
def command(
    run: str,
    path: str,
    by: str,
    rate: float,
    background: str,
    split: str,
    count: int,
    samples: int | None,
    seed: int,
    top: int,
    output: str | None,
    engine: str,
    workers: int | None,
    as_json: bool,
) -> None:
    """Rank the data at PATH by how surprising they are to the model of the folder RUN.

    PATH is a folder of images, an image, a .npy or .npz file, or a data set's name. The default score joins the code lengths of the
    model and of image codecs, because likelihood alone takes simple images for likely ones. p-values rank among the run's own
    validation data, which must be clean.
    """
    if output is not None and Path(output).suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--output {output}; wanted a file name that ends in .html")
    from codelength.anomaly import score_items
    from codelength.anomaly.items import load_items
    from codelength.report.collect import load_run_data
    from codelength.run import load_run

    trained = load_run(run)
    items, data = load_items(path, split, trained)
    model = trained.load_model()
    samples = samples or trained.recipe.evaluation.samples
    own = load_run_data(trained)
    behind, name = _background(background, model, own.splits.get("train"))
    with _progress("calibrating") as progress:
        calibration = _calibrate(
            trained, model, own.split("validation"), behind, name, count, samples, seed, by, progress
        )
    with _progress("scoring") as progress:
        lengths = None
        if engine == "ray":
            from codelength.cluster import ray_lengths

            lengths = ray_lengths(
                trained.path,
                path,
                split,
                len(data),
                background=background if behind is not None else "none",
                samples=samples,
                seed=seed,
                workers=workers,
                progress=progress,
            )
        scored = score_items(
            model,
            data,
            calibration,
            items=items,
            background=behind,
            by=by,
            rate=rate,
            samples=samples,
            seed=seed,
            progress=progress,
            lengths=lengths,
        )
    if output is not None:
        from codelength.anomaly.page import write_surprises

        click.echo(str(write_surprises(scored, model, data, Path(output), trained.name, top)), err=True)
    _print(scored, top, as_json)


def _background(background: str, model: LikelihoodModel, train: Split | None) -> tuple[LikelihoodModel | None, str]:
    """The background model and what names it."""
    from codelength.anomaly.lengths import BACKGROUND_TABLE, fit_background
    from codelength.run import load_run

    if background == "none" or (background == BACKGROUND_TABLE and model.space.kind != "image"):
        return None, "none"
    if background != BACKGROUND_TABLE:
        other = load_run(background)
        return other.load_model(), other.model_sha256
    if train is None:
        raise UsageError("the run has no training data to fit a context table to; give --background RUN or none")
    return fit_background(model, train), BACKGROUND_TABLE


def _calibrate(
    trained: Run,
    model: LikelihoodModel,
    clean: Split,
    background: LikelihoodModel | None,
    background_name: str,
    count: int,
    samples: int,
    seed: int,
    by: str,
    progress: Progress,
) -> Calibration:
    from dataclasses import replace

    from codelength.anomaly import calibrate, latent_regret
    from codelength.anomaly.calibration import chosen_data
    from codelength.anomaly.scoring import REGRET

    identity = f"{trained.model_sha256} {background_name}" if trained.model_sha256 else ""
    found = calibrate(
        model,
        clean,
        background=background,
        identity=identity,
        count=count,
        samples=samples,
        seed=seed,
        progress=progress,
    )
    if by != REGRET:
        return found
    _, rank = chosen_data(clean, count, seed)
    return replace(found, extra={REGRET: latent_regret(model, clean.batch(rank), seed=seed)})


def _print(scored: Scored, top: int, as_json: bool) -> None:
    import json

    if as_json:
        click.echo(json.dumps(scored.to_json(), indent=1))
        return
    click.echo("rank\titem\tp-value\tflagged\tbits/dim\t" + "\t".join(scored.scores))
    for rank, i in enumerate(scored.order[:top], 1):
        cells: list[Any] = [
            rank,
            scored.items[i],
            f"{scored.p_values[scored.by][i]:.4f}",
            "yes" if scored.flagged[i] else "",
        ]
        cells += [f"{scored.bits_per_dim[i]:.3f}", *(f"{values[i]:.1f}" for values in scored.scores.values())]
        click.echo("\t".join(map(str, cells)))
    flagged, (low, high) = int(scored.flagged.sum()), scored.expected_if_clean
    click.echo(
        f"{flagged} of {len(scored.items)} flagged by {scored.by} at a false-positive rate of {scored.rate:g}, "
        f"against {scored.calibration} clean items; were all clean, {low:.1%} to {high:.1%} would be (95%)",
        err=True,
    )


@contextmanager
def _progress(what: str) -> Iterator[Progress]:
    """A bar on stderr where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
