"""What a source is worth: translation and captions by a prefix language model, beside the same model blind to the source.

    python benchmarks/prefix_models.py -o benchmarks/results/prefix-models.json [--only django_french-prefix_lm] [--runs runs]

Trains each recipe twice, as it is and with `blind: true`, evaluates both on the test targets with the records that `codelength evaluate` writes, and gives the paired
differences with their 95 % intervals: nats a target (blind − told; messages of one catalogue entry are one cluster) and share of exact matches of the greedily
decoded text (told − blind). Emojis are split in four ways, each with trainings of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from codelength import load_data, load_recipe, load_run, train
from codelength.data.pairs import text_of_target
from codelength.evaluation import evaluate_run
from codelength.evaluation.provenance import git_commit, library_versions
from codelength.evaluation.targets import decode_greedily, paired_difference

RECIPES = ("django_french-prefix_lm", "emoji_names-prefix_lm")
SPLIT_SEEDS = {"emoji_names-prefix_lm": (0, 1, 2, 3)}
"""Splits into training and test data that are measured, where one has few test targets; a target of several test sets is one cluster."""
SHOWN = 8


def measured(name: str, runs: Path) -> dict[str, Any]:
    """Train and compare one recipe, on every split of it that `SPLIT_SEEDS` names."""
    pairs = [one_split(name, seed, runs) for seed in SPLIT_SEEDS.get(name, (None,))]
    nats, matches, clusters = (np.concatenate([pair[i] for pair in pairs]) for i in range(3))
    rows = [pair[3] for pair in pairs]
    return {
        "recipe": name,
        "test_targets": len(nats),
        **rows[0],
        "other_splits": rows[1:],
        "nats_saved": paired_difference(nats, np.zeros(len(nats)), clusters).to_json(),
        "matches_gained": paired_difference(matches, np.zeros(len(nats)), clusters).to_json(),
    }


def one_split(name: str, seed: int | None, runs: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
    """Of each test target: nats saved, matches gained, cluster, a number of its text or of its catalogue entry; and the figures of both trainings."""
    rows: dict[str, Any] = {} if seed is None else {"split_seed": seed}
    matches, nats = {}, {}
    for kind, blind in (("told", False), ("blind", True)):
        changes: dict[str, Any] = {"model.options.blind": blind, "name": f"{name}-{kind}"}
        if seed:
            changes |= {"data.options.seed": seed, "name": f"{name}-{kind}-split{seed}"}
        recipe = load_recipe(name, changes)
        data = load_data(recipe.data.name, **recipe.data.options)
        split, folder = data.split("test"), runs / recipe.name
        done = (folder / "recipe.yaml").is_file() and any(line["split"] == "end" for line in load_run(folder).metrics())
        run = load_run(folder) if done else train(recipe, folder, resume=(folder / "recipe.yaml").is_file())
        evaluation = evaluate_run(run, split="test")
        decoded = decode_greedily(run.load_model(), split)
        matches[kind] = (decoded == split.x).all(axis=1).astype(float)
        nats[kind] = evaluation.per_example
        seconds = next(line["cpu_seconds"] for line in reversed(run.metrics()) if "cpu_seconds" in line)
        rows[kind] = {
            "nats_per_target": evaluation.record.nats_per_example,
            "exact_match": float(matches[kind].mean()),
            "cpu_seconds": seconds,
        }
        assert data.vocabulary is not None
        if kind == "told":
            order = sorted(range(len(split)), key=lambda i: -matches[kind][i])
            rows["examples"] = [
                {
                    "target": text_of_target(split.x[i], data.vocabulary),
                    "decoded": text_of_target(decoded[i], data.vocabulary),
                }
                for i in order[: SHOWN // 2] + order[-SHOWN // 2 :]
            ]
    clusters = split.clusters
    if clusters is None:  # a target is itself in whatever split it is
        texts = [text_of_target(x, data.vocabulary).encode() for x in split.x]
        clusters = np.array([int.from_bytes(hashlib.sha256(text).digest()[:7], "big") for text in texts])
    return nats["blind"] - nats["told"], matches["told"] - matches["blind"], clusters, rows


def main() -> None:
    """Train, compare and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "prefix-models.json")
    parser.add_argument("--only", choices=RECIPES, action="append")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    rows = []
    if arguments.output.is_file():
        rows = list(json.loads(arguments.output.read_text())["rows"])
    for name in arguments.only or RECIPES:
        row = measured(name, arguments.runs)
        rows = [other for other in rows if other["recipe"] != name] + [row]
        print(json.dumps({key: value for key, value in row.items() if key != "examples"}, indent=1), flush=True)
        result = {"rows": rows, "commit": git_commit(), "library_versions": library_versions()}
        arguments.output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
