"""Accuracy and nats a label: a classifier p(label | x) against Bayes' rule on a class-conditional model of the same digits.

    python benchmarks/classification.py -o benchmarks/results/classification.json

Trains recipe digits-label-regression and a class-conditional MADE on `digits`, each in under a CPU-minute, and classifies the test digits with both. Bayes' rule takes the
training data's shares of the classes as prior.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from codelength import load_data, load_recipe, train
from codelength.evaluation.classification import classify
from codelength.evaluation.provenance import git_commit, library_versions
from codelength.recipe import parse_recipe

MADE = {
    "name": "digits-made-told",
    "data": {"name": "digits"},
    "model": {"system": "made", "options": {"hidden": [256], "components": 5, "class_conditional": True}},
    "training": {"steps": 1500, "batch_size": 64, "learning_rate": 2e-3, "ema_decay": 0.99, "validate_every": 250},
}


def main() -> None:
    """Train, classify and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "classification.json")
    arguments = parser.parse_args()
    rows = []
    for recipe in (load_recipe("digits-label-regression"), parse_recipe(MADE)):
        data = load_data(recipe.data.name)
        with tempfile.TemporaryDirectory() as folder:
            run = train(recipe, Path(folder) / "run", progress=False)
            model = run.load_model()
            seconds = next(line["cpu_seconds"] for line in reversed(run.metrics()) if "cpu_seconds" in line)
        labels = data.split("train").conditions.get("label")
        prior = None if labels is None else np.bincount(labels, minlength=10) / len(labels)
        found = classify(model, data.split("test"), prior=prior)
        rows.append({"recipe": recipe.name, "cpu_seconds": seconds, **found.to_json()})
        print(rows[-1])
    result = {"rows": rows, "commit": git_commit(), "library_versions": library_versions()}
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
