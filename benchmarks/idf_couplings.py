"""What couplings do for an integer flow whose priors see all that stays: short trainings of the recipe mnist-idf with other couplings, JSON into results/.

    python benchmarks/idf_couplings.py
    python benchmarks/idf_couplings.py --only none recipe --steps 200

All take the same number of steps with the recipe's schedule, shortened. For each: bits/dim on the first 1,000 validation images by the averaged weights, CPU time, and the share of latents
that couplings move. Variants that the results hold with the same number of steps are not trained again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from integer_flow import learning_curve, share_moved

from codelength.data import load_data
from codelength.recipe import load_recipe
from codelength.training import train

VARIANTS: dict[str, dict[str, Any]] = {
    "none": {"couplings": 0},
    "recipe": {},
    "scale 0.02": {"translation_scale": 0.02},
    "scale 0.2": {"translation_scale": 0.2},
    "paper's layout, none": {"couplings": 0, "factoring": "half"},
    "paper's layout, 4 a scale": {"couplings": 4, "pattern": "random", "factoring": "half", "translation_scale": 0.02},
}
RECIPE = "mnist-idf"
MOVED_OF = 100


def measure(options: dict[str, Any], steps: int) -> dict[str, Any]:
    """Train one variant."""
    recipe = load_recipe(
        RECIPE,
        {
            **{f"model.options.{key}": value for key, value in options.items()},
            "training.steps": steps,
            "training.ema_decay": 0.99,
            "training.validate_every": max(1, steps // 4),
        },
    )
    data = load_data(recipe.data.name, **recipe.data.options)
    with tempfile.TemporaryDirectory() as folder:
        run = train(recipe, Path(folder) / "run", data=data, progress=False)
        model = run.load_model()
        curve = learning_curve(run.path)
        end = json.loads((run.path / "metrics.jsonl").read_text().splitlines()[-1])
    x = torch.from_numpy(data.split("validation").x[:MOVED_OF]).long()
    return {
        "options": options,
        "bits_per_dim": curve[-1]["bits_per_dim"],
        "share_of_latents_moved_by_couplings": share_moved(model, x),
        "parameters": end["parameters"],
        "cpu_seconds": end["cpu_seconds"],
        "learning_curve": curve,
    }


def main() -> None:
    """Train the variants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="NAME")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "idf_couplings.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    if found.get("steps") != arguments.steps:
        found = {"recipe": RECIPE, "steps": arguments.steps, "torch": torch.__version__, "variants": {}}
    for name in arguments.only:
        if name not in found["variants"]:
            found["variants"][name] = measure(VARIANTS[name], arguments.steps)
            print(name, found["variants"][name], flush=True)
            arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    print(arguments.out)


if __name__ == "__main__":
    main()
