"""`codelength sweep`: train many settings and compare them."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("sweep")
@click.argument("recipes", nargs=-1, required=True, metavar="RECIPE...")
@click.option(
    "--over",
    "axes",
    multiple=True,
    metavar="KEY=V1,V2|LOW..HIGH",
    help="A key and its values, or a range (log:LOW..HIGH: uniform in the logarithm); may be repeated.",
)
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change a key of all; the value is YAML."
)
@click.option("--trials", type=click.IntRange(1), help="Number of settings; all combinations without ranges.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Trials at a time on each device.")
@click.option(
    "--device", "devices", multiple=True, help="Device to train on; may be repeated [default: every GPU, or cpu]."
)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder of the sweep; the same one goes on."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the proposals.")
@click.option("--top", type=click.IntRange(1), default=20, show_default=True, help="Best runs in the table.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def command(
    recipes: tuple[str, ...],
    axes: tuple[str, ...],
    assignments: tuple[str, ...],
    trials: int | None,
    jobs: int,
    devices: tuple[str, ...],
    out: Path,
    seed: int,
    top: int,
    as_json: bool,
) -> None:
    """Train every RECIPE under many settings over the devices at hand, and compare the best on validation data.

    Ranges are searched by Optuna's TPE, lists by all combinations. The table is that of `codelength compare`.
    """
    from codelength.evaluation import compare, evaluate_run
    from codelength.evaluation.tables import render
    from codelength.recipe import parse_overrides
    from codelength.sweep import parse_axis, sweep

    runs = sweep(
        recipes,
        [parse_axis(axis) for axis in axes],
        out,
        trials=trials,
        jobs=jobs,
        devices=devices or None,
        overrides=parse_overrides(assignments),
        seed=seed,
        report=lambda text: click.echo(text, err=True),
    )
    click.echo(f"best of {len(runs)}: {runs[0].path}", err=True)
    evaluations = [evaluate_run(run, split="validation") for run in runs[:top]]
    if len(evaluations) == 1:
        from codelength.evaluation.tables import record_table

        record = evaluations[0].record
        click.echo(record.to_json() if as_json else record_table([record]), nl=as_json)
        return
    click.echo(render(compare(evaluations), "json" if as_json else "terminal"), nl=False)
