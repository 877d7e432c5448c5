"""`codelength bench`: our times beside others', in one run."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click


@click.command("bench")
@click.argument("names", metavar="[TASK]...", nargs=-1)
@click.option("--list", "list_tasks", is_flag=True, help="List the tasks.")
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True, help="Runs of each side that count.")
@click.option("--threads", type=click.IntRange(1), help="Threads of both sides; by default PyTorch's number.")
@click.option("--pip-args", default="", help="Options of pip, where a peer is yet to be installed.")
@click.option("--small", is_flag=True, help="Tiny sizes, to try the benchmark; the ratios say nothing.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the record (JSON) there; tasks in it are replaced.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    names: tuple[str, ...],
    list_tasks: bool,
    rounds: int,
    threads: int | None,
    pip_args: str,
    small: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Run TASKs (by default all): ours and theirs in turn, on the same data and threads.

    Each peer is installed from PyPI into an environment of its own, kept in the cache folder. A ratio is the other's
    CPU-seconds over ours, the median over the rounds with its quartiles; it counts only if both sides agree on the result
    and our model passes its audit.
    """
    import torch

    from codelength.bench.measure import machine
    from codelength.bench.tasks import TASKS, Options, run_task
    from codelength.errors import unknown_name

    if list_tasks:
        for name, (_, what) in TASKS.items():
            click.echo(f"{name:18} {what}")
        return
    for name in names:
        if name not in TASKS:
            raise unknown_name("task", name, TASKS)
    options = Options(threads or torch.get_num_threads(), rounds, shlex.split(pip_args), small)
    record: dict[str, object] = {}
    if out is not None and out.exists():
        record = json.loads(out.read_text())
    for name in names or TASKS:
        click.echo(f"{name}: {TASKS[name][1]}", err=True)
        result = run_task(name, options)
        fields = {key: value for key, value in vars(result).items() if key != "task"}
        record[name] = {**fields, "reached": result.reached, "machine": {**machine(), "threads": options.threads}}
        if out is not None:
            out.write_text(json.dumps(record, indent=1) + "\n")
        if not as_json:
            ratio = result.ratio
            verdict = "reached" if result.reached else "not reached" if result.passed else "parity or audit failed"
            click.echo(
                f"{name}: {ratio['median']:.3g} times {result.theirs} "
                f"({ratio['lower_quartile']:.3g} to {ratio['upper_quartile']:.3g}; wanted {result.wanted:g}: {verdict})"
            )
    if as_json:
        click.echo(json.dumps(record, indent=1))
