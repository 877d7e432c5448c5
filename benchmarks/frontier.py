"""Bits/dim of image systems on CIFAR-10 against the time they trained: a plot and JSON, from runs' metrics.

    python benchmarks/frontier.py --train --minutes 60
    python benchmarks/frontier.py --train --recipes cifar10-vae
    python benchmarks/frontier.py --runs runs/frontier-*

With `--train` each recipe is trained on for as long as its metrics say that it has had less than the minutes; it may be
killed and called again, for one recipe or all. Without, nothing is trained: the plot is made of the runs there are, the
published records of CIFAR-10, and the curves already in the result file, so that it fills as systems are trained. Of two
curves of one name that which trained longer is kept. A point is the best bits/dim on the selection
split so far, at CPU-seconds of training (`cpu_seconds` of the metrics: other work on the machine moves it less than wall time); bounds
are bounds. A schedule of learning rates belongs to its number of steps: what a system reaches after 15 minutes of a longer
schedule is less than what it could reach in 15.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RECIPES = (
    "cifar10-causal_lattice",
    "cifar10-causal_window",
    "cifar10-draw",
    "cifar10-glow",
    "cifar10-iaf_vae",
    "cifar10-image_transformer",
    "cifar10-sparse_transformer",
    "cifar10-vae",
)
MINUTES = (15, 30, 60)
LOOK = 20  # seconds between looks at the metrics of a training


def lines(run: Path) -> Iterator[dict[str, Any]]:
    """Metrics of a run; a last line that was cut off is left out."""
    metrics = run / "metrics.jsonl"
    for text in metrics.read_text().splitlines() if metrics.exists() else ():
        try:
            yield json.loads(text)
        except json.JSONDecodeError:
            return


def trained(run: Path) -> float:
    """CPU-seconds that a run has trained."""
    return max((float(line.get("cpu_seconds") or 0) for line in lines(run)), default=0.0)


def curve(run: Path) -> list[tuple[float, float]]:
    """(CPU-seconds, best bits/dim of held-out data so far)."""
    points: list[tuple[float, float]] = []
    for line in lines(run):
        bits = line.get("bits_per_dim")
        if line.get("split") in ("train", "end") or bits is None:
            continue
        best = min(bits, points[-1][1]) if points else bits
        points.append((float(line["cpu_seconds"]), best))
    return points


def merged(*sources: dict[str, list[tuple[float, float]]]) -> dict[str, list[tuple[float, float]]]:
    """Curves of all sources; of those of one name that which trained longer, the last where they are equal."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for source in sources:
        for name, points in source.items():
            if points and (name not in curves or points[-1][0] >= curves[name][-1][0]):
                curves[name] = points
    return curves


def stored(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Curves of a result file."""
    if not path.exists():
        return {}
    curves = json.loads(path.read_text())["curves"]
    return {name: [(when, bits) for when, bits in points] for name, points in curves.items()}


def at(points: list[tuple[float, float]], seconds: float) -> float | None:
    """Best bits/dim by then; None where the run was not validated by then, or has not trained so long."""
    known = [bits for when, bits in points if when <= seconds]
    return known[-1] if known and points[-1][0] >= seconds else None


def train(recipe: str, run: Path, minutes: float) -> None:
    """Train on until the run has had its minutes."""
    if trained(run) >= 60 * minutes:
        return
    where = ["--resume"] if (run / "state").exists() else []
    command = [sys.executable, "-m", "codelength.cli.main", "train", recipe, "--out", str(run), "--quiet", *where]
    process = subprocess.Popen(command)
    while process.poll() is None and trained(run) < 60 * minutes:
        time.sleep(LOOK)
    process.terminate()
    process.wait()


def plot(curves: dict[str, list[tuple[float, float]]], path: Path) -> None:
    """Draw the curves."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5))
    for name, points in sorted(curves.items()):
        axes.step([when / 60 for when, _ in points], [bits for _, bits in points], where="post", label=name)
    for minute in MINUTES:
        axes.axvline(minute, color="0.85", zorder=0)
    axes.set(xlabel="CPU-minutes of training", ylabel="bits/dim, held-out", xscale="log")
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    results = Path(__file__).parent / "results"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="store_true", help="train the recipes first")
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    parser.add_argument("--minutes", type=float, default=max(MINUTES))
    parser.add_argument("--folder", type=Path, default=Path("runs"), help="where runs frontier-RECIPE are")
    parser.add_argument("--runs", type=Path, nargs="+", help="runs to plot, by default those of the recipes")
    parser.add_argument(
        "--records", type=Path, default=results.parents[1] / "records", help="published runs of CIFAR-10"
    )
    parser.add_argument("--out", type=Path, default=results / "frontier.json", help="the plot lies beside it, as .svg")
    arguments = parser.parse_args()
    runs = [arguments.folder / f"frontier-{recipe}" for recipe in arguments.recipes]
    if arguments.train:
        for recipe, run in zip(arguments.recipes, runs, strict=True):
            train(recipe, run, arguments.minutes)
    own = {run.name.removeprefix("frontier-"): curve(run) for run in arguments.runs or runs}
    published = {run.name: curve(run) for run in sorted(arguments.records.glob("cifar10-*"))}
    curves = merged(stored(arguments.out), published, own)
    if not curves:
        sys.exit("no run has been validated yet; train with --train, or name runs with --runs")
    table = {name: {f"{minute} min": at(points, 60 * minute) for minute in MINUTES} for name, points in curves.items()}
    arguments.out.write_text(json.dumps({"bits_per_dim_after": table, "curves": curves}, indent=1) + "\n")
    plot(curves, arguments.out.with_suffix(".svg"))
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
