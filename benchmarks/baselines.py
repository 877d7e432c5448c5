"""What baselines reach: fits each on the training split of each data set, scores the whole test split, prints JSON.

    python benchmarks/baselines.py [--data mnist5k cifar10 ...] [--system context_table ...]

Two-level data are given in nats a datum as well; the Gaussian is a bound (K = 1, uniform dequantization, seed 0).
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from typing import Any

import torch

from codelength import bits_per_dim, build_model
from codelength.data import DataSet, load_data
from codelength.data.official import is_here
from codelength.data.registry import ENTRIES
from codelength.evaluation.statistics import mean_with_error
from codelength.models.base import LikelihoodModel, estimate_kind
from codelength.randomness import ExampleNoise

SYSTEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "uniform": ("uniform", {}),
    "histogram_global": ("histogram", {"scope": "global"}),
    "histogram": ("histogram", {}),
    "gaussian": ("gaussian", {}),
    "context_table": ("context_table", {}),
}
DATA = ("mnist5k", "digits", "photos32", "mnist", "mnist-static", "cifar10")
BATCH = 500


def code_lengths(model: LikelihoodModel, data: DataSet) -> torch.Tensor:
    """Nats of every test datum, (N,), float64."""
    split = data.split("test")
    parts = []
    for start in range(0, len(split), BATCH):
        x = split.batch(slice(start, start + BATCH))
        if estimate_kind(model) == "exact":
            parts.append(-model.log_prob(x))
        else:
            noise = ExampleNoise(0, range(start, start + len(x)))
            parts.append(-model.log_weights(x, 1, noise).total[0])
    return torch.cat(parts).double()


@torch.no_grad()
def measure(name: str, label: str) -> dict[str, Any]:
    """Record of one system on one data set."""
    data = load_data(name)
    system, options = SYSTEMS[label]
    model = build_model(system, data.space, **options)
    start = time.perf_counter()
    if hasattr(model, "fit"):
        model.fit(data.split("train").batch(slice(None)))
    fitted = time.perf_counter()
    nats = code_lengths(model, data)
    scored = time.perf_counter()
    dims = data.space.num_dims
    value = mean_with_error(nats.numpy(), data.split("test").clusters)
    return {
        "data": data.name,
        "split": "test",
        "data_sha256": data.split("test").fingerprint(),
        "system": system,
        "options": options,
        "kind": estimate_kind(model),
        "fitted_on": len(data.split("train")),
        "num_examples": len(nats),
        "bits_per_dim": bits_per_dim(value.value, dims),
        "standard_error_bits_per_dim": bits_per_dim(value.standard_error, dims),
        "nats_per_example": value.value,
        "fit_seconds": round(fitted - start, 2),
        "score_seconds": round(scored - fitted, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", default=DATA)
    parser.add_argument("--system", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
    arguments = parser.parse_args()
    records = []
    for name in arguments.data:
        folder = ENTRIES[name].folder if name in ENTRIES else None
        if folder is not None and not is_here(folder):
            print(f"{name}: the official files are not here; skipped", file=sys.stderr)
            continue
        for label in arguments.system:
            records.append(measure(name, label))
            print(f"{name} {label}: {records[-1]['bits_per_dim']:.4f} bits/dim", file=sys.stderr)
    machine = {"machine": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    print(json.dumps({**machine, "records": records}, indent=1))


if __name__ == "__main__":
    main()
