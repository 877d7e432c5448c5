"""`codelength evaluate`: measure a model's code length."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codelength.errors import UsageError

if TYPE_CHECKING:
    from codelength.evaluation import Evaluation
    from codelength.evaluation.estimate import Progress
    from codelength.models.base import LikelihoodModel


@click.command(name="evaluate")
@click.argument("run", metavar="RUN | FILE.py:NAME | HF_FOLDER")
@click.option("--data", "data_name", help="Data set or path; the run's own by default.")
@click.option(
    "--split",
    type=click.Choice(["validation", "test", "train"]),
    default="validation",
    show_default=True,
    help="Split; test data are touched only when named, and counted.",
)
@click.option("--samples", type=click.IntRange(1), help="Samples K of a bound; the recipe's by default.")
@click.option("--seed", type=int, help="Seed of the bound's noise; the recipe's by default.")
@click.option("--batch-size", type=click.IntRange(1), help="Examples a batch; changes no number.")
@click.option(
    "--examples", type=click.IntRange(1), help="Score a seeded sample of so many data; the record lists them."
)
@click.option(
    "--ais", "ais", type=click.IntRange(1), metavar="STEPS", help="Anneal with STEPS temperatures (latent models)."
)
@click.option("--chains", type=click.IntRange(1), default=16, show_default=True, help="Chains a datum of --ais.")
@click.option(
    "--simulate", type=click.IntRange(1), metavar="N", help="With --ais: interval on N data of the model itself."
)
@click.option("--context", type=click.IntRange(1), help="Text: longest window in tokens; the model's by default.")
@click.option("--stride", type=click.IntRange(1), help="Text: tokens from one window to the next; half the context.")
@click.option(
    "--bos/--no-bos", default=None, help="HF_FOLDER: begin windows with its start token [default: if it has one]."
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Score a run's data in this process, or by the workers of a Ray cluster (extra ray).",
)
@click.option("--workers", type=click.IntRange(1), help="Workers of --engine ray; one a CPU by default.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to keep the record of a FILE.py:NAME in.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def command(
    run: str,
    data_name: str | None,
    split: str,
    samples: int | None,
    seed: int | None,
    batch_size: int | None,
    examples: int | None,
    ais: int | None,
    chains: int,
    simulate: int | None,
    context: int | None,
    stride: int | None,
    bos: bool | None,
    engine: str,
    workers: int | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure a model's code length on a data set, in bits/dim with its standard error.

    The number is exact or a bound, whichever the model can answer; a run keeps the record and the code length of each
    datum in its folder, for `codelength compare`.

    Text is scored token by token in windows: total nats, bits/byte and perplexities. HF_FOLDER is a local folder of a causal language
    model of Hugging Face; --data names the text, which is read with the folder's tokenizer.
    """
    if ais is not None:
        from codelength import distributed

        distributed.require_one("evaluate --ais")
    if simulate is not None:
        _simulate(run, ais, chains, simulate, seed or 0)
        return
    options = {"samples": samples, "seed": seed, "batch_size": batch_size, "examples": examples}
    options |= {"context": context, "stride": stride}
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    is_run = Path(run).is_dir() and (Path(run) / "recipe.yaml").is_file()
    if engine == "ray" and (ais is not None or not is_run):
        raise UsageError("--engine ray scores a run; leave out --ais, or give the folder that `codelength train` wrote")
    if engine == "ray":
        given |= {"engine": engine, "workers": workers}
    with _progress() as progress:
        if ais is not None:
            evaluation = _anneal(run, data_name, split, {"steps": ais, "chains": chains}, given, progress)
        elif is_run:
            evaluation = _evaluate_run(run, data_name, split, out, given, progress)
        else:
            evaluation = _evaluate_subject(run, data_name, split, out, given, progress, bos)
    from codelength.evaluation.tables import record_table, text_lines

    click.echo(evaluation.record.to_json() if as_json else record_table([evaluation.record]), nl=as_json)
    if not as_json and evaluation.record.total_nats is not None:
        click.echo(text_lines(evaluation.record))


def _evaluate_run(
    path: str, data_name: str | None, split: str, out: Path | None, options: dict[str, Any], progress: Progress
) -> Evaluation:
    from codelength.data import load_data
    from codelength.evaluation import evaluate_run
    from codelength.run import load_run

    run = load_run(path)
    data = None if data_name in (None, run.recipe.data.name) else load_data(str(data_name))
    if data is not None and "engine" in options:
        options["data_source"] = (str(data_name), {})
    evaluation = evaluate_run(run, data=data, split=split, progress=progress, **options)
    if out is not None:
        evaluation.save(out)
    return evaluation


def _evaluate_subject(
    subject: str,
    data_name: str | None,
    split: str,
    out: Path | None,
    options: dict[str, Any],
    progress: Progress,
    bos: bool | None,
) -> Evaluation:
    if ":" not in subject and not Path(subject).is_dir():
        raise UsageError(
            f"{subject} is neither a run nor a model: wanted the folder that `codelength train --out` wrote, or "
            "FILE.py:NAME, a callable without arguments that returns the model"
        )
    if data_name is None:
        raise UsageError(f"{subject} does not say what it models; name the data with --data")
    from codelength.adapters import load_subject
    from codelength.adapters.huggingface import is_hugging_face_folder, load_with_text
    from codelength.data import load_data
    from codelength.evaluation import evaluate

    model: LikelihoodModel
    if is_hugging_face_folder(subject):
        model, data = load_with_text(subject, data_name, context=options.get("context"), bos=bos)
    else:
        data = load_data(data_name)
        model = load_subject(subject, data.space)
    evaluation = evaluate(model, data, split, model_name=subject, family="foreign", progress=progress, **options)
    if out is not None:
        evaluation.save(out)
    return evaluation


def _anneal(
    path: str, data_name: str | None, split: str, schedule: dict[str, int], options: dict[str, Any], progress: Progress
) -> Evaluation:
    from codelength.data import load_data
    from codelength.evaluation.annealed import AnnealingSchedule
    from codelength.evaluation.annealed_run import evaluate_run_annealed
    from codelength.run import load_run

    for name in ("samples", "batch_size"):
        if name in options:
            raise UsageError(f"--{name.replace('_', '-')} has no meaning with --ais; give --chains and --examples")
    run = load_run(path)
    data = None if data_name in (None, run.recipe.data.name) else load_data(str(data_name))
    return evaluate_run_annealed(
        run, AnnealingSchedule(**schedule), data=data, split=split, progress=progress, **options
    )


def _simulate(path: str, steps: int | None, chains: int, count: int, seed: int) -> None:
    import json

    from codelength.evaluation.annealed import AnnealingSchedule
    from codelength.evaluation.annealed_run import simulated_interval
    from codelength.run import load_run

    if steps is None:
        raise UsageError("--simulate wants --ais STEPS: it tells how exact annealing with so many temperatures is")
    result = simulated_interval(load_run(path), AnnealingSchedule(steps, chains), count, seed=seed)
    click.echo(json.dumps(result, indent=1))


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on stderr where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("evaluating", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
