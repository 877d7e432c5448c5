"""Likelihood as a detector: AUROC of every score, false-positive rates, costs.

    codelength train fashion_mnist-causal_window && codelength train mnist-causal_window
    codelength train fashion_mnist-vae-small && codelength train mnist-vae-small
    python benchmarks/detection.py --runs runs --emoji emoji32.npy --out benchmarks/results/detection.json

Each run is calibrated on its own validation data, then scores its own test data and odd data: MNIST against Fashion-MNIST both
ways, CIFAR-10 against its own images turned by 90 degrees, uniform noise, constant colours, and emoji (Twemoji of 32 x 32 pixels on
white, CC BY 4.0; an array (N, 32, 32, 3) of uint8). Latent regret is measured with VAEs, on fewer data. `--part` chooses one part,
whose rows replace those in the file.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from codelength import load_data, load_run
from codelength.anomaly import auroc, calibrate, false_positive_interval, latent_regret, score_items
from codelength.anomaly.calibration import chosen_data
from codelength.anomaly.lengths import fit_background
from codelength.anomaly.scoring import REGRET
from codelength.data.dataset import Split

RATES = (0.01, 0.05, 0.1)
PARTS = ("mnist", "fashion_mnist", "cifar10", "mnist-regret", "fashion_mnist-regret")


def odd_cifar(x: np.ndarray, emoji: Path | None, count: int) -> dict[str, np.ndarray]:
    """Odd images made of clean ones (the last `count`), and emoji."""
    generator = np.random.default_rng(0)
    sets = {
        "rotated 90": np.rot90(x[-count:], axes=(2, 3)).copy(),
        "uniform noise": generator.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8),
        "constant": np.broadcast_to(
            generator.integers(0, 256, (count, 3, 1, 1), dtype=np.uint8), (count, 3, 32, 32)
        ).copy(),
    }
    if emoji is not None:
        sets["emoji"] = np.load(emoji)[:count].transpose(0, 3, 1, 2).copy()
    return sets


def detect(
    run_path: Path, clean: np.ndarray, odd: dict[str, np.ndarray], calibration: int, *, regret: bool
) -> dict[str, Any]:
    """AUROC of each score against each odd set, false-positive rates on clean test data, costs."""
    run = load_run(run_path)
    model, data = run.load_model(), load_data(run.recipe.data.name)
    samples = run.recipe.evaluation.samples
    started = time.process_time()
    background = fit_background(model, data.split("train"))
    fitted = time.process_time() - started
    found = calibrate(model, data.split("validation"), background=background, count=calibration, samples=samples)
    if regret:
        _, rank = chosen_data(data.split("validation"), calibration, 0)
        found = replace(found, extra={REGRET: latent_regret(model, data.split("validation").batch(rank))})
    of_clean = score_items(model, Split(clean), found, background=background, samples=samples)
    sets = {
        name: score_items(model, Split(x), found, background=background, samples=samples) for name, x in odd.items()
    }
    return {
        "run": run.name,
        "model_sha256": run.model_sha256,
        "calibration_ranked": len(found),
        "clean_test": len(clean),
        "background_fit_cpu_seconds": round(fitted, 1),
        "calibration_cpu_seconds": round(sum(found.ranked.seconds.values()), 1),
        "auroc": {
            name: {
                "images": len(odd[name]),
                **{
                    s: {k: round(v, 4) for k, v in asdict(auroc(of_clean.scores[s], scored.scores[s])).items()}
                    for s in of_clean.scores
                },
            }
            for name, scored in sets.items()
        },
        "mean_bits_per_dim": {
            "clean": float(of_clean.bits_per_dim.mean()),
            **{name: float(scored.bits_per_dim.mean()) for name, scored in sets.items()},
        },
        "false_positives": {
            s: {
                str(rate): {
                    "measured": float((of_clean.p_values[s] <= rate).mean()),
                    "interval": false_positive_interval(rate, len(found), len(clean)),
                }
                for rate in RATES
            }
            for s in of_clean.scores
        },
        "cpu_seconds": {name: round(value, 3) for name, value in of_clean.seconds.items()},
        "cost_over_one_pass": {
            name: round((of_clean.seconds["pass"] + value) / of_clean.seconds["pass"], 3)
            for name, value in of_clean.seconds.items()
            if name != "pass"
        },
    }


def part(name: str, runs: Path, prefix: str, emoji: Path | None, record: Path) -> dict[str, Any]:
    """The rows of one part."""
    if name == "cifar10":
        x = load_data("cifar10").split("test").x
        return detect(record, x[:1500], odd_cifar(x, emoji, 500), 1500, regret=False)
    data, _, regret = name.partition("-")
    other = "fashion_mnist" if data == "mnist" else "mnist"
    own, odd = load_data(data).split("test").x, load_data(other).split("test").x
    if regret:
        return detect(runs / f"{prefix}{data}-vae-small", own[::40], {other: odd[::40]}, 400, regret=True)
    return detect(runs / f"{prefix}{data}-causal_window", own, {other: odd[::4]}, 5000, regret=False)


def table(result: dict[str, Any]) -> str:
    """The AUROCs as a Markdown table: a row a score, a column a pair of data sets."""
    columns = [(name, odd) for name in PARTS if name in result for odd in result[name]["auroc"]]
    scores = sorted({s for n, odd in columns for s in result[n]["auroc"][odd]} - {"images"}, key=_place)
    lines = ["| score | " + " | ".join(f"{n.replace('-regret', ' (VAE)')} / {odd}" for n, odd in columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for score in scores:
        cells = []
        for name, odd in columns:
            found = result[name]["auroc"][odd].get(score)
            cells.append("–" if found is None else f"{found['value']:.3f} ({found['low']:.3f}–{found['high']:.3f})")
        lines.append(f"| `{score}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _place(score: str) -> tuple[int, str]:
    order = ("likelihood", "typicality", "complexity", "ratio", REGRET, "joint")
    return (order.index(score) if score in order else order.index("complexity"), score)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--prefix", default="", help="Before the names of the runs.")
    parser.add_argument("--cifar10", type=Path, default=Path("records/cifar10-causal_window"))
    parser.add_argument("--emoji", type=Path)
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/detection.json"))
    options = parser.parse_args()
    result = json.loads(options.out.read_text()) if options.out.is_file() else {}
    for name in options.part or PARTS:
        result[name] = part(name, options.runs, options.prefix, options.emoji, options.cifar10)
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
