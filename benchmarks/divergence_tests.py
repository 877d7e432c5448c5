"""p-values of MMD and KSD: uniform under the null, power against contamination. 1,000 repetitions of each.

    python benchmarks/divergence_tests.py --out benchmarks/results/divergence_tests.json

Null: n = 500 standard normals (MMD: against as many). Alternative: 10% of them shifted by 3 standard deviations. In one and in two
dims; kernels of the median rule's bandwidth, Gaussian and inverse multiquadric; 200 permutations or resamples.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch
from scipy.stats import kstest
from torch import Tensor

from codelength.divergences import GaussianKernel, InverseMultiquadric, ksd_p_value, median_bandwidth, mmd_p_value

N, REPETITIONS, DRAWS, LEVEL, SHARE, SHIFT = 500, 1000, 200, 0.05, 0.1, 3.0
TESTS = ("mmd gaussian", "mmd imq", "ksd imq")


def sample(dims: int, contamination: float, generator: torch.Generator) -> Tensor:
    """N points, a share of them shifted along the first dim."""
    x = torch.randn(N, dims, generator=generator)
    x[:, 0] += SHIFT * (torch.rand(N, generator=generator) < contamination)
    return x


def p_value(test: str, x: Tensor, generator: torch.Generator) -> float:
    """Of "x is standard normal"."""
    if test == "ksd imq":
        kernel = InverseMultiquadric(median_bandwidth(x, most=250))
        return ksd_p_value(x, -x, kernel, resamples=DRAWS, generator=generator)
    y = sample(x.shape[1], 0.0, generator)
    width = median_bandwidth(x, y, most=250)
    of_pool = GaussianKernel(width) if test == "mmd gaussian" else InverseMultiquadric(width)
    return mmd_p_value(y, x, of_pool, permutations=DRAWS, generator=generator)


def rejections(p_values: list[float]) -> dict[str, float]:
    """Share of p-values up to the level, with its standard error."""
    share = sum(p <= LEVEL for p in p_values) / len(p_values)
    return {"share": share, "standard_error": round(math.sqrt(share * (1 - share) / len(p_values)), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/divergence_tests.json"))
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--test", choices=TESTS, action="append", help="By default all.")
    parser.add_argument("--dims", type=int, action="append", help="By default 1 and 2.")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for test in options.test or TESTS:
        for dims in options.dims or (1, 2):
            generator = torch.Generator().manual_seed(dims + options.seed)
            started = time.process_time()
            null = [p_value(test, sample(dims, 0.0, generator), generator) for _ in range(options.repetitions)]
            other = [p_value(test, sample(dims, SHARE, generator), generator) for _ in range(options.repetitions)]
            rows.append(
                {
                    "test": test,
                    "dims": dims,
                    "seed": options.seed,
                    "n": N,
                    "repetitions": options.repetitions,
                    "level": LEVEL,
                    "false_positives": rejections(null),
                    "power": rejections(other),
                    "null_deciles": [round(sum(p <= q / 10 for p in null) / len(null), 3) for q in range(1, 10)],
                    "kolmogorov_smirnov_p_value_of_uniformity": round(float(kstest(null, "uniform").pvalue), 4),
                    "cpu_seconds": round(time.process_time() - started, 1),
                }
            )
            options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
