"""Verify published numbers: `python scripts/verify_records.py records` or `... runs/demo/results.json`.

Runs published without their weights are checked as far as that goes, and say so.

A run, or a folder of runs: of every record in it the mean is taken again from the code length of each example, and the examples are
scored again with the run's weights (`--examples N`: N of them, chosen by a fixed seed); bits/dim must agree to 1e-4, the
data's fingerprint exactly. A results.json: of every row, bits/dim and standard error from the code length of each example;
data fingerprint from the data; size of the coded file from the file; and that the weights are those that were measured.

Data that are neither in the packages nor in CODELENGTH_DATA are fetched; where they cannot be, the run counts as wrong, or with
`--skip-missing-data` is named and passed over.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from codelength.data import load_data
from codelength.errors import DataError
from codelength.evaluation import Evaluation, per_example_nats
from codelength.evaluation.sample import of_examples
from codelength.evaluation.statistics import mean_with_error
from codelength.evaluation.text import as_data, token_nats
from codelength.run import file_sha256, load_run
from codelength.units import bits_per_dim

TOLERANCE = 1e-9
EVALUATED_AGAIN = 1e-4  # bits/dim: what another machine's round-off may make of it


def check_run(folder: Path, examples: int | None = None) -> list[str]:
    """What is wrong with the records of a run, evaluated again on all examples or some; nothing if all agree.

    Raises:
        DataError: The data are not there and cannot be fetched.
    """
    run, problems = load_run(folder), []
    data = load_data(run.recipe.data.name, **run.recipe.data.options)
    model = run.load_model() if has_weights(folder) else None
    for path in sorted(folder.glob("evaluation/*/record.json")):
        evaluation = Evaluation.load(path.parent)
        record, kept = evaluation.record, evaluation.per_example
        # Some records are of a sample of the split, which they list.
        own = data if evaluation.examples is None else of_examples(data, record.split, evaluation.examples)
        split = own.split(record.split) if record.context is None else as_data(own.texts[record.split])
        if split.fingerprint() != record.data_sha256:
            problems.append(f"{path.parent.name}: the data are not those of the record")
            continue
        mean = float(bits_per_dim(kept.mean(), record.num_dims))
        if not same(mean, record.bits_per_dim):
            problems.append(f"{path.parent.name}: {record.bits_per_dim} bits/dim, but its examples' mean is {mean}")
        if model is None:
            continue
        if record.context is not None:
            assert record.stride is not None
            count = len(kept) if examples is None else min(len(kept), max(examples, record.context))
            chosen = np.arange(count)  # what comes later changes nothing
            tokens = own.texts[record.split].tokens[:count]
            code_length = token_nats(model, tokens, context=record.context, stride=record.stride)
        else:
            chosen = np.arange(len(kept))
            if examples is not None and examples < len(kept):
                chosen = np.sort(np.random.default_rng(0).choice(len(kept), examples, replace=False))
            again = per_example_nats(model, split, samples=record.num_samples, seed=record.seed, indices=chosen)
            code_length = again.code_length
        found = float(bits_per_dim(code_length.mean(), record.num_dims))
        wanted = float(bits_per_dim(kept[chosen].mean(), record.num_dims))
        if not abs(found - wanted) <= EVALUATED_AGAIN:
            problems.append(f"{path.parent.name}: {wanted:.5f} bits/dim in the record, {found:.5f} found")
    return problems


def has_weights(folder: Path) -> bool:
    """Whether a run was published with its weights."""
    return (folder / "model.safetensors").is_file()


def check_row(row: dict[str, Any], folder: Path) -> list[str]:
    """What is wrong with a row; nothing if all agrees."""
    run = load_run(folder / row["run"])
    evaluation = Evaluation.load((folder / row["record"]).parent)
    record = evaluation.record
    mean = mean_with_error(bits_per_dim(evaluation.per_example, record.num_dims), evaluation.clusters)
    data = load_data(run.recipe.data.name, **run.recipe.data.options)
    wanted: dict[str, tuple[Any, Any]] = {
        "bits_per_dim": (row["bits_per_dim"], mean.value),
        "standard_error_bits_per_dim": (row["standard_error_bits_per_dim"], mean.standard_error),
        "data_sha256": (row["data_sha256"], data.split(row["split"]).fingerprint()),
        "model_sha256": (row["model_sha256"], file_sha256(run.path / "model.safetensors")),
    }
    if row["coding"] is not None:
        coding = json.loads((folder / row["coding"]).read_text())
        size = ((folder / row["coding"]).parent / Path(coding["file"]).name).stat().st_size
        wanted["coded_total_bytes"] = (row["coded_total_bytes"], size)
        wanted["coded_bits_per_dim"] = (row["coded_bits_per_dim"], 8 * size / (record.num_examples * record.num_dims))
    return [
        f"{name}: {got} in the results, {found} found" for name, (got, found) in wanted.items() if not same(got, found)
    ]


def same(a: Any, b: Any) -> bool:
    """Equal, numbers up to round-off."""
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE) or (math.isnan(a) and math.isnan(b))
    return bool(a == b)


def main(arguments: list[str]) -> int:
    """Check the files; 0 if all agrees, 1 if not, 2 where there is nothing to check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", default=["records"], help="runs, folders of runs, and results.json files")
    parser.add_argument("--examples", type=int, help="score only so many examples of each record again")
    parser.add_argument("--skip-missing-data", action="store_true", help="pass over runs whose data cannot be had")
    options = parser.parse_args(arguments)
    wrong = 0
    for path in map(Path, options.paths):
        if path.is_dir():
            runs = sorted(recipe.parent for recipe in [*path.glob("recipe.yaml"), *path.glob("*/recipe.yaml")])
            if not runs:
                print(f"{path} is no run and holds none: a run has a recipe.yaml", file=sys.stderr)
                return 2
            wrong += sum(check_and_tell(run, options) for run in runs)
            continue
        if not path.is_file():
            print(f"{path} does not exist; make it with `make demo`", file=sys.stderr)
            return 2
        for row in json.loads(path.read_text())["rows"]:
            problems = check_row(row, path.parent)
            wrong += len(problems)
            print(f"{row['data']} {row['model']}: {'; '.join(problems) or 'agrees'}")
    return 1 if wrong else 0


def check_and_tell(folder: Path, options: argparse.Namespace) -> int:
    """Print what is wrong with a run; how many things are."""
    try:
        problems = check_run(folder, options.examples)
    except DataError as error:
        print(f"{folder}: NOT CHECKED, {error}", flush=True)
        return 0 if options.skip_missing_data else 1
    agrees = "agrees" if has_weights(folder) else "its means and data agree; its weights are not here, see its DATA.md"
    print(f"{folder}: {'; '.join(problems) or agrees}", flush=True)
    return len(problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
