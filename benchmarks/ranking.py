"""All autoregressive systems at equal time: trained, scored, sampled step by step, compressed and decoded.

    python benchmarks/ranking.py                                     # every system, mnist5k and photos32, 300 CPU-seconds each
    python benchmarks/ranking.py --data mnist5k --systems made --budget 60

Each system's small recipe is taken with as many steps as the budget of process CPU-seconds allows, by the median of some
steps timed first, one thread; its schedule shrinks with it. The record is of the whole test split; `--coded` of its images are
compressed and decoded in a fresh process. Rows go to results/ranking.json and, as a table, to results/ranking.md; systems that are in the file
already with the same budget are not trained again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from train_step import measure

from codelength.coding import measure_coding
from codelength.data import load_data
from codelength.data.dataset import DataSet, Split
from codelength.evaluation import evaluate_run
from codelength.models.base import num_parameters
from codelength.models.registry import build_model
from codelength.randomness import make_generator
from codelength.recipe import Recipe, load_recipe
from codelength.training import train

SYSTEMS = (
    "causal_lattice",
    "causal_window",
    "pixelcnn_pp",
    "gated_pixelcnn",
    "pixelcnn",
    "pixelrnn",
    "image_transformer",
    "sparse_transformer",
    "made",
)
RESULTS = Path(__file__).parent / "results"
TIMED_STEPS = 5


def shrink(recipe: Recipe, data: DataSet, budget: float) -> Recipe:
    """The recipe with as many steps as fit into the budget, validated four times."""
    seconds = measure(recipe, data, TIMED_STEPS)["cpu_seconds_a_step"]
    steps = max(20, int(0.9 * budget / seconds))  # validation takes the rest
    training = recipe.training
    changed = {
        "steps": steps,
        "warmup_steps": min(training.warmup_steps, steps // 10),
        "validate_every": max(1, steps // 4),
        "validation_examples": 100,
        "checkpoint_every": steps,
        "sample_every": None,
        # An average over a twentieth of the run at most.
        "ema_decay": None if training.ema_decay is None else min(training.ema_decay, 1 - 20 / max(steps, 40)),
    }
    return recipe.model_copy(update={"training": training.model_copy(update=changed)})


def first(data: DataSet, count: int) -> DataSet:
    """The data set with the first images of its test split only."""
    test = data.split("test")
    few = Split(test.x[:count], conditions={name: values[:count] for name, values in test.conditions.items()})
    return replace(data, splits={**data.splits, "test": few})


def run_system(name: str, system: str, budget: float, coded: int) -> dict[str, Any]:
    """Train, evaluate, sample and code; one row of the table."""
    data = load_data(name)
    recipe = shrink(load_recipe(f"{name}-{system}"), data, budget)
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        run = train(recipe, Path(folder) / f"{name}-{system}", progress=False, data=data)
        training = time.process_time() - started
        record = evaluate_run(run, data=data, split="test").record
        model: Any = run.load_model()
        started = time.process_time()
        samples = model.sample(16, make_generator("ranking"))
        sampling = (time.process_time() - started) / len(samples)
        coding = measure_coding(run, first(data, coded), "test", folder=Path(folder))
        parameters = num_parameters(build_model(recipe.model.system, data.space, **recipe.model.options))
        shutil.rmtree(run.path)
    return {
        "data": name,
        "system": system,
        "parameters": parameters,
        "steps": recipe.training.steps,
        "training_cpu_seconds": round(training, 1),
        "bits_per_dim": record.bits_per_dim,
        "standard_error_bits_per_dim": record.standard_error_bits_per_dim,
        "kind": record.kind,
        "coded_images": coding.num_examples,
        "coded_bits_per_dim": coding.coded_bits_per_dim,
        "model_bits_per_dim_of_coded": coding.model_bits_per_dim,
        "decoded_equal": coding.verified,
        "sampling_cpu_seconds_an_image": round(sampling, 4),
        "budget_cpu_seconds": budget,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown, a table a data set, best first."""
    lines = ["# Autoregressive systems at equal time", "", "Made by `python benchmarks/ranking.py`.", ""]
    for name in dict.fromkeys(row["data"] for row in rows):
        lines += [
            f"## {name}, test",
            "",
            "| system | bits/dim | coded (images) | −log2 P of these | training, CPU-s | steps | parameters | sample, CPU-s an image |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for row in sorted((r for r in rows if r["data"] == name), key=lambda r: float(r["bits_per_dim"])):
            lines.append(
                f"| `{row['system']}` | {row['bits_per_dim']:.3f} ± {row['standard_error_bits_per_dim']:.3f} "
                f"| {row['coded_bits_per_dim']:.3f} ({row['coded_images']}) | {row['model_bits_per_dim_of_coded']:.3f} "
                f"| {row['training_cpu_seconds']:.0f} | {row['steps']} | {row['parameters']:,} "
                f"| {row['sampling_cpu_seconds_an_image']:.3f} |"
            )
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["mnist5k", "photos32"])
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS))
    parser.add_argument("--budget", type=float, default=300.0, help="process CPU-seconds of training")
    parser.add_argument("--coded", type=int, default=100, help="test images that are compressed and decoded")
    parser.add_argument("--out", type=Path, default=RESULTS / "ranking.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = json.loads(arguments.out.read_text())["rows"] if arguments.out.is_file() else []
    for name in arguments.data:
        for system in arguments.systems:
            known = [(row["data"], row["system"], row["budget_cpu_seconds"]) for row in rows]
            if (name, system, arguments.budget) in known:
                continue
            row = run_system(name, system, arguments.budget, arguments.coded)
            print(json.dumps(row), flush=True)
            rows = [r for r in rows if (r["data"], r["system"]) != (name, system)] + [row]
            arguments.out.write_text(
                json.dumps({"torch": torch.__version__, "threads": 1, "rows": rows}, indent=1) + "\n"
            )
            arguments.out.with_suffix(".md").write_text(table(rows))


if __name__ == "__main__":
    main()
