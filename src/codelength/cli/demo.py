"""`codelength demo`: the whole idea at work in minutes."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("demo")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/demo"), show_default=True, help="Folder.")
@click.option("--fast", is_flag=True, help="A trial of the machinery on mnist5k; its numbers mean nothing.")
@click.option("--data", "data", multiple=True, metavar="NAME", help="Only this data set; may be repeated.")
@click.option("--model", "systems", multiple=True, metavar="NAME", help="Only this model; may be repeated.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change a key of all recipes.")
@click.option("--jobs", type=click.IntRange(1, 64), default=2, show_default=True, help="Models at a time, a core each.")
def command(
    out: Path, fast: bool, data: tuple[str, ...], systems: tuple[str, ...], assignments: tuple[str, ...], jobs: int
) -> None:
    """Train models of four families on real images, measure them on one protocol, compress the test set with each exact
    one, decode it in a fresh process, compare with PNG, WebP, JPEG XL and xz, and write a report.

    It takes minutes on 2 cores. Stopped at any moment, the same command goes on where it was.
    """
    from codelength.demo.plan import DATA, FAST_DATA, SYSTEMS
    from codelength.demo.run import run_demo
    from codelength.recipe import parse_overrides

    def say(line: str) -> None:
        click.echo(line, err=True)

    tables = run_demo(
        out,
        say,
        data=data or (FAST_DATA if fast else DATA),
        systems=systems or tuple(SYSTEMS),
        overrides=parse_overrides(assignments),
        fast=fast,
        jobs=jobs,
    )
    click.echo(tables)
