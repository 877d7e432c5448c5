"""`codelength compare`: which run is better, on the same data, pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from codelength.errors import EvaluationError, UsageError

if TYPE_CHECKING:
    from codelength.evaluation import EvaluationRecord

DEFAULT_SPLITS = ("test", "validation", "train")


@click.command(name="compare")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option("--data", "data_name", help="Data set; by default the one on which all were evaluated.")
@click.option(
    "--split",
    type=click.Choice(DEFAULT_SPLITS),
    help="Split; by default test, then validation, where all have a record of it.",
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["terminal", "markdown", "latex", "json"]),
    default="terminal",
    show_default=True,
    help="How to print the tables.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the bootstrap.")
@click.option(
    "--charge-conditions",
    "charge",
    is_flag=True,
    help="Add the bits of their conditions to conditional models, to compare them with unconditional ones.",
)
@click.option("--resamples", type=click.IntRange(100), default=2000, show_default=True, help="Bootstrap resamples.")
def command(
    runs: tuple[str, ...],
    data_name: str | None,
    split: str | None,
    format_name: str,
    as_json: bool,
    seed: int,
    charge: bool,
    resamples: int,
) -> None:
    """Compare runs pair by pair on the same data: ranking, savings in bits/dim and bytes, 95% intervals.

    RUN is a run that `codelength evaluate` has measured, or the folder of one record. Of several records of a run on
    the same data the tightest counts. A bound prints as <= and is never taken for an exact value.
    """
    from codelength.evaluation import Evaluation, compare
    from codelength.evaluation.tables import render

    found = [stored_records(Path(run)) for run in runs]
    data_name, split = _common(runs, found, data_name, split)
    folders = [_tightest(run, records, data_name, split) for run, records in zip(runs, found, strict=True)]
    click.echo(f"comparing {len(folders)} records of {data_name} {split}", err=True)
    evaluations = [Evaluation.load(folder) for folder in folders]
    comparison = compare(evaluations, seed=seed, resamples=resamples, charge=charge)
    click.echo(render(comparison, "json" if as_json else format_name), nl=False)


def stored_records(path: Path) -> dict[Path, EvaluationRecord]:
    """Folder -> record of a run, or of one record's folder; records of other weights than the run's are left out.

    Raises:
        UsageError: The folder is neither a run nor a record.
    """
    from codelength.evaluation import load_record
    from codelength.run import load_run

    if (path / "record.json").is_file():
        return {path: load_record(path)}
    if not (path / "recipe.yaml").is_file():
        raise UsageError(
            f"{path} is neither a run nor a record: wanted a folder with recipe.yaml, that `codelength train` wrote, "
            "or one with record.json, that `codelength evaluate` wrote"
        )
    run = load_run(path)
    records = {file.parent: load_record(file.parent) for file in sorted(path.glob("evaluation/*/record.json"))}
    fresh = {f: r for f, r in records.items() if not run.model_sha256 or r.model_sha256 == run.model_sha256}
    for folder in records.keys() - fresh.keys():
        click.echo(f"{folder} is of other weights than the run has now; left out", err=True)
    return fresh


def _common(
    runs: Sequence[str], found: Sequence[dict[Path, EvaluationRecord]], data: str | None, split: str | None
) -> tuple[str, str]:
    """The data and split that all have a record of."""
    sets = [
        {(r.data, r.split) for r in records.values() if data in (None, r.data) and split in (None, r.split)}
        for records in found
    ]
    for run, own in zip(runs, sets, strict=True):
        if not own:
            wanted = f"--split {split or 'test'}" + (f" --data {data}" if data else "")
            has = f"no record of {data or 'any data'} {split or ''}".strip()
            raise EvaluationError(f"{run} has {has}; run `codelength evaluate {run} {wanted}` first")
    shared = sorted(set.intersection(*sets), key=lambda pair: (DEFAULT_SPLITS.index(pair[1]), pair[0]))
    if not shared:
        listed = "; ".join(
            f"{run}: {', '.join(' '.join(pair) for pair in sorted(own))}" for run, own in zip(runs, sets, strict=True)
        )
        raise EvaluationError(
            f"the runs have no record of the same data and split ({listed}); run `codelength evaluate` on the same first"
        )
    if data is None and len({name for name, s in shared if s == shared[0][1]}) > 1:
        names = ", ".join(sorted({name for name, _ in shared}))
        raise UsageError(f"the runs have records of several data sets ({names}); choose one with --data")
    return shared[0]


def _tightest(run: str, records: dict[Path, EvaluationRecord], data: str, split: str) -> Path:
    matching = {f: r for f, r in records.items() if (r.data, r.split) == (data, split)}
    return min(matching, key=lambda folder: (matching[folder].kind == "estimate", matching[folder].bits_per_dim))
