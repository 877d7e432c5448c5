"""Do better likelihoods make better features? Accuracy of a linear probe against bits/dim over several checkpoints, of images and of text.

    python benchmarks/linear_probe.py -o benchmarks/results/linear-probe.json --figure docs/linear-probe.png

Images: a gated PixelCNN on `digits`; the probe tells the digit (1,297 digits to fit, 250 test digits). Text: a GPT-2 on the bytes of `pydoc`; the probe tells which of the longest
topics outside the training text a passage of 64 bytes is from (equally many passages of each; the first half of each topic to fit, the second to test). Checkpoints are trainings
of more and more steps, from one initialization, each with its own record of bits/dim on the test data; the first has hardly begun. No label is seen before the probe.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codelength import load_data, train
from codelength.data.dataset import DataSet
from codelength.evaluation import evaluate_run
from codelength.evaluation.probe import layer_features, linear_probe
from codelength.evaluation.provenance import git_commit, library_versions
from codelength.recipe import parse_recipe

STEPS = (2, 20, 60, 200, 600)
PASSAGE, SHORTEST = 64, 3_500
RECIPES: dict[str, dict[str, Any]] = {
    "images": {
        "name": "probe-digits",
        "data": {"name": "digits"},
        "model": {
            "system": "gated_pixelcnn",
            "options": {"filters": 24, "layers": 4, "first_kernel": 3, "components": 5},
        },
        "training": {"batch_size": 32, "learning_rate": 2e-3, "clip_norm": 1.0},
    },
    "text": {
        "name": "probe-pydoc",
        "data": {"name": "pydoc", "options": {"context": PASSAGE}},
        "model": {"system": "gpt2", "options": {"layers": 2, "width": 64, "heads": 2, "dropout": 0.0}},
        "training": {"batch_size": 16, "learning_rate": 3e-3, "clip_norm": 1.0},
    },
}
LAYERS = {"images": "out", "text": "norm"}
Labelled = tuple[torch.Tensor, np.ndarray]


def labelled_digits(data: DataSet) -> tuple[Labelled, Labelled]:
    """Digits and their labels, to fit and to test."""
    fit, test = data.split("train"), data.split("test")
    return (fit.batch(slice(None)), fit.conditions["label"]), (test.batch(slice(None)), test.conditions["label"])


def labelled_passages(data: DataSet) -> tuple[Labelled, Labelled]:
    """Passages of the longest topics outside the training text and the topics' numbers, to fit and to test."""
    passages = []
    for split in ("validation", "test"):
        text = data.texts[split]
        for document in range(int(text.documents[-1]) + 1):
            tokens = text.tokens[text.documents == document]
            if len(tokens) >= SHORTEST:
                passages.append(tokens[: len(tokens) // PASSAGE * PASSAGE].reshape(-1, PASSAGE))
    count = min(len(rows) for rows in passages) // 2
    labels = np.repeat(np.arange(len(passages)), count)
    fit = np.concatenate([rows[:count] for rows in passages])
    test = np.concatenate([rows[count : 2 * count] for rows in passages])
    return (torch.from_numpy(fit.astype(np.int64)), labels), (torch.from_numpy(test.astype(np.int64)), labels)


def measured(kind: str) -> dict[str, Any]:
    """The checkpoints of one kind of data."""
    base = RECIPES[kind]
    data = load_data(base["data"]["name"], **base["data"].get("options", {}))
    (fit, labels), (test, test_labels) = (labelled_digits if kind == "images" else labelled_passages)(data)
    rows = []
    for steps in STEPS:
        recipe = parse_recipe({**base, "training": {**base["training"], "steps": steps, "validate_every": steps}})
        with tempfile.TemporaryDirectory() as folder:
            run = train(recipe, Path(folder) / "run", progress=False)
            record = evaluate_run(run, split="test").record
            model = run.load_model()
        told = layer_features(model, fit, LAYERS[kind]), layer_features(model, test, LAYERS[kind])
        accuracy = linear_probe(told[0], labels, told[1], test_labels)
        rows.append({"steps": steps, "bits_per_dim": record.bits_per_dim, "accuracy": accuracy})
        print(kind, rows[-1], flush=True)
    chance = float(np.bincount(test_labels).max() / len(test_labels))
    return {"recipe": base, "layer": LAYERS[kind], "fit": len(fit), "test": len(test), "chance": chance, "rows": rows}


def draw(result: dict[str, Any], path: Path) -> None:
    """The figure: accuracy against bits/dim, a curve a kind of data."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for kind, label in (("images", "images: bits/dim of digits"), ("text", "text: bits/byte of pydoc")):
        rows = result[kind]["rows"]
        (line,) = axes.plot([r["bits_per_dim"] for r in rows], [r["accuracy"] for r in rows], "o-", label=label)
        axes.axhline(result[kind]["chance"], color=line.get_color(), linestyle=":", linewidth=1)
        for row in rows:
            axes.annotate(f"{row['steps']}", (row["bits_per_dim"], row["accuracy"]), xytext=(4, 4), textcoords="offset points", fontsize=8)  # fmt: skip
    axes.set(xlabel="bits/dim on test data (lower is better)", ylabel="accuracy of a linear probe", ylim=(0, 1))
    axes.invert_xaxis()
    axes.legend(loc="center", bbox_to_anchor=(0.5, 0.68), title="numbers: training steps; dotted: chance")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Train, probe, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "linear-probe.json")
    parser.add_argument("--figure", type=Path, help="PNG file to draw.")
    arguments = parser.parse_args()
    result = {kind: measured(kind) for kind in RECIPES}
    written = {**result, "commit": git_commit(), "library_versions": library_versions()}
    arguments.output.write_text(json.dumps(written, indent=1) + "\n")
    if arguments.figure is not None:
        draw(result, arguments.figure)


if __name__ == "__main__":
    main()
