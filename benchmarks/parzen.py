"""Why Parzen windows are no likelihood: by their estimate, centres of clusters beat the data itself.

    python benchmarks/parzen.py --out benchmarks/results/parzen.json

A Gaussian of width σ around every sample of a "model" is averaged, and σ is chosen for the best mean log density of held-out
data. Two "models" of MNIST digits are compared on the same test digits: real training digits (no model can do better), and the
centres that k-means finds among all of them. Reference: Theis et al., arXiv:1511.01844, section 3.2, table 1.
The numbers are densities of reals on [0, 1] and are reported nowhere else.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch
from torch import Tensor

from codelength import load_data
from codelength.functional import log_mean_exp

WIDTHS = [0.05 * 1.15**i for i in range(14)]
SAMPLES, CENTRES, SCORED = 1500, 1500, 400


def parzen(samples: Tensor, x: Tensor, width: float) -> float:
    """Mean over x of log (1/S) Σ_s N(x; sample_s, width² I), nats."""
    distance = torch.cdist(x, samples).square() / (2 * width**2)
    constant = 0.5 * x.shape[1] * math.log(2 * math.pi * width**2)
    return float((log_mean_exp(-distance.T) - constant).mean())


def k_means(x: Tensor, count: int, rounds: int = 10) -> Tensor:
    """Lloyd's centres, from a random start."""
    centres = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:count]].clone()
    for _ in range(rounds):
        nearest = torch.cdist(x, centres).argmin(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, x)
        counts = torch.bincount(nearest, minlength=count).unsqueeze(1)
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    return centres


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    data = load_data("mnist5k")
    train, validation, test = (
        torch.from_numpy(data.split(s).x.reshape(len(data.split(s)), -1)).float() / 255
        for s in ("train", "validation", "test")
    )
    models = {"training data": train[:SAMPLES], "k-means centres": k_means(train, CENTRES)}
    result = {}
    for name, samples in models.items():
        scores = [parzen(samples, validation[:SCORED], width) for width in WIDTHS]
        width = WIDTHS[scores.index(max(scores))]
        result[name] = {"width": round(width, 4), "parzen_nats": round(parzen(samples, test[:SCORED], width), 2)}
    parser.parse_args().out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
