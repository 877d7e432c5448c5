"""Cached steps against full passes: sampling and step-by-step scoring of autoregressive models; JSON into results/.

    python benchmarks/sampling.py
    python benchmarks/sampling.py --threads 2 --filters 32

Measurements, with random weights (the time does not depend on them), in CPU-seconds of the process, which other work
on the machine moves less than wall seconds:

    sample   64 images 32x32x3 drawn by steps, against one parallel pass times the number of sites (what drawing without a
             cache costs), for PixelCNN++ and MADE; PixelCNN++ also in batches of 1 and 256
    score    500 images 28x28x1 scored by steps, the work a codec does besides entropy coding, against one parallel pass
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from codelength import LikelihoodModel, Space, build_model
from codelength.models.autoregressive.stepwise import score_stepwise
from codelength.models.base import num_parameters


def seconds(work: Callable[[], Any]) -> dict[str, float]:
    """CPU-seconds and wall seconds of one call."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return {
        "cpu_seconds": round(time.process_time() - cpu, 3),
        "wall_seconds": round(time.perf_counter() - wall, 3),
    }


def parallel_pass(model: Any, x: torch.Tensor, batch: int) -> dict[str, float]:
    """Time of the parallel pass over x in batches, the faster of two."""

    def work() -> None:
        with torch.no_grad():
            for part in x.split(batch):
                model.log_prob(part)

    return min((seconds(work) for _ in range(2)), key=lambda times: times["cpu_seconds"])


def sampling(model: LikelihoodModel, n: int) -> dict[str, Any]:
    """Drawing n images by steps, against a parallel pass a site."""
    space: Any = model.space
    sites = space.sizes[1] * space.sizes[2]
    x = torch.randint(space.levels, (n, *space.sizes), generator=torch.Generator().manual_seed(0))
    once = parallel_pass(model, x, n)
    generator = torch.Generator().manual_seed(0)
    steps = seconds(lambda: model.sample(n, generator))  # type: ignore[operator]
    return {
        "what": "sample",
        "model": type(model).__name__,
        "parameters": num_parameters(model),
        "images": [n, *space.sizes],
        "steps": steps,
        "one_parallel_pass": once,
        "times_faster_than_a_pass_a_site": round(once["cpu_seconds"] * sites / steps["cpu_seconds"], 1),
        "images_per_cpu_second": round(n / steps["cpu_seconds"], 2),
    }


def scoring(model: Any, n: int) -> dict[str, Any]:
    """Scoring n images by steps, against the parallel pass; and how far apart the two are."""
    space = model.space
    x = torch.randint(space.levels, (n, *space.sizes), generator=torch.Generator().manual_seed(0))
    scores: list[torch.Tensor] = []
    steps = seconds(lambda: scores.append(score_stepwise(model, x)))
    with torch.no_grad():
        gap = (torch.cat([model.log_prob(part) for part in x.split(50)]) - scores[0]).abs().max() / space.num_dims
    return {
        "what": "score",
        "model": type(model).__name__,
        "parameters": num_parameters(model),
        "images": [n, *space.sizes],
        "steps": steps,
        "parallel": parallel_pass(model, x, 50),
        "largest_gap_nats_per_dim": float(gap),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filters", type=int, default=24)
    parser.add_argument("--blocks", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sampling.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    options: dict[str, Any] = {"filters": arguments.filters, "blocks": arguments.blocks, "components": 5}
    grey, colour = Space.image(1, 28, 28), Space.image(3, 32, 32)
    pixelcnn, made = (
        {space: build_model(system, space, **chosen).eval() for space in (grey, colour)}
        for system, chosen in (("pixelcnn_pp", options), ("made", {"hidden": [512], "components": 3}))
    )
    measurements: list[Callable[[], dict[str, Any]]] = [
        lambda: sampling(pixelcnn[colour], 64),
        lambda: sampling(made[colour], 64),
        lambda: scoring(pixelcnn[grey], 500),
        lambda: scoring(made[grey], 500),
        lambda: sampling(pixelcnn[colour], 1),
        lambda: sampling(pixelcnn[colour], 256),
    ]
    rows = []
    for measure in measurements:
        rows.append(measure())
        print(json.dumps(rows[-1]), flush=True)
    result = {
        "pixelcnn_pp": options,
        "threads": arguments.threads,
        "torch": torch.__version__,
        "cpu": platform.processor() or platform.machine(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
