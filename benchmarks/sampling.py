"""Cached steps against full passes: sampling and step-by-step scoring of autoregressive models; JSON into results/.

    python benchmarks/sampling.py
    python benchmarks/sampling.py --threads 2 --filters 32

Measurements, with random weights (the time does not depend on them), in CPU-seconds of the process, which other work
on the machine moves less than wall seconds:

    sample   64 images 32x32x3 drawn by steps, against drawing them by a full forward pass a pixel. The latter is really done
             for a stretch of pixels in the middle of the images (`--naive`), with the generator as the steps had it there, so
             that both must draw the same pixels (`same_draws`; 1 where they do); its time for all of them is the stretch's
             times their number. Systems PixelCNN++ (also class-conditional, completing the upper half, and in batches of 1
             and 256), MADE and the causal window network, whose sites of one wavefront are drawn in one pass.
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
from codelength.models.autoregressive.causal_window import CausalWindow
from codelength.models.autoregressive.causal_window_heads import WindowDistribution
from codelength.models.autoregressive.made import MADE
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


def naive_draws(model: Any, x: torch.Tensor, first: int, count: int, state: torch.Tensor, **conditions: Any) -> float:
    """Draw the values of `count` steps from `first` on by a full pass each, given x before them; share drawn as in x."""
    generator = torch.Generator()
    generator.set_state(state)
    known, hits = torch.zeros_like(x), []
    for positions in model.schedule[:first]:
        positions.scatter(known, positions.gather(x))
    for positions in model.schedule[first : first + count]:
        with torch.no_grad():
            distribution = at_sites(model, known, positions, **conditions)
            values = distribution.sample(generator=generator)
        hits.append((values == positions.gather(x)).double().mean())
        positions.scatter(known, positions.gather(x))
    return float(torch.stack(hits).mean())


def at_sites(model: Any, x: torch.Tensor, positions: Any, **conditions: Any) -> Any:
    """A full forward pass, and the distribution of some sites from its outputs."""
    if isinstance(model, CausalWindow):
        # It has no smaller pass than its features of every site; the heads are asked at the sites alone.
        whole: Any = model.conditionals(x, **conditions)
        height, width = model.space.sizes[1:]
        place = torch.arange(len(x))[:, None] * height * width + positions.rows * width + positions.columns
        features, prediction = whole.features[place.flatten()], whole.prediction[place.flatten()]
        shape = (len(x), (len(positions.rows),))
        return WindowDistribution(model.heads, model.units, features, prediction, shape, model.space.levels)
    outputs = model.ordered.outputs(x) if isinstance(model, MADE) else model.outputs(x, conditions.get("label"))
    return model.likelihood(outputs[:, :, positions.rows, positions.columns])


def drawn_by_steps(
    model: Any, n: int, first: int, given: torch.Tensor | None, **conditions: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images drawn by steps, and the generator's state before step `first`."""
    generator, states = torch.Generator().manual_seed(0), []
    step = type(model).step

    def watched(self: Any, *arguments: Any) -> Any:
        states.append(generator.get_state() if len(states) == first else None)
        return step(self, *arguments)

    type(model).step = watched
    try:
        rows = 0 if given is None else model.space.sizes[1] // 2
        x = model.sample(n, generator, given=given, rows=rows, **conditions)
    finally:
        type(model).step = step
    return x, states[first]


def sampling(model: LikelihoodModel, n: int, naive: int, *, complete: bool = False) -> dict[str, Any]:
    """Drawing n images by steps, against a full pass a step for `naive` steps."""
    space: Any = model.space
    schedule: Any = model.schedule
    first = len(schedule) * 3 // 4
    conditions = {name: torch.arange(n) % space.conditions[name] for name in model.conditioning}
    given = torch.randint(256, (n, *space.sizes), generator=torch.Generator().manual_seed(1)) if complete else None
    drawn: list[tuple[torch.Tensor, torch.Tensor]] = []
    steps = seconds(lambda: drawn.append(drawn_by_steps(model, n, first, given, **conditions)))
    (x, state), share = drawn[0], [0.0]
    pixels = sum(len(positions.rows) for positions in schedule[first : first + naive])

    def without_cache() -> None:
        share[0] = naive_draws(model, x, first, naive, state, **conditions)

    stretch = seconds(without_cache)
    all_steps = len(schedule) // 2 if complete else len(schedule)
    slow = stretch["cpu_seconds"] * all_steps / naive
    return {
        "what": "complete" if complete else "sample",
        "model": type(model).__name__,
        "conditioned_on": list(model.conditioning),
        "parameters": num_parameters(model),
        "images": [n, *space.sizes],
        "steps": len(schedule),
        "by_steps": steps,
        "by_full_passes": {"steps_done": naive, "pixels_done": pixels, **stretch, "all_cpu_seconds": round(slow, 1)},
        "same_draws": share[0],
        "times_faster": round(slow / steps["cpu_seconds"], 1),
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
    parser.add_argument("--naive", type=int, default=8, help="steps that are also drawn by a full forward pass each")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sampling.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    options: dict[str, Any] = {"filters": arguments.filters, "blocks": arguments.blocks, "components": 5}
    grey, colour = Space.image(1, 28, 28), Space.image(3, 32, 32, conditions={"label": 10})
    pixelcnn, made = (
        {space: build_model(system, space, **chosen).eval() for space in (grey, colour)}
        for system, chosen in (("pixelcnn_pp", options), ("made", {"hidden": [512], "components": 3}))
    )
    told = build_model("pixelcnn_pp", colour, **options, class_conditional=True).eval()
    window = build_model("causal_window", colour, width=128).eval()
    naive = arguments.naive
    measurements: list[Callable[[], dict[str, Any]]] = [
        lambda: sampling(pixelcnn[colour], 64, naive),
        lambda: sampling(told, 64, naive),
        lambda: sampling(pixelcnn[colour], 64, naive, complete=True),
        lambda: sampling(made[colour], 64, naive),
        lambda: sampling(window, 64, naive),
        lambda: scoring(pixelcnn[grey], 500),
        lambda: scoring(made[grey], 500),
        lambda: sampling(pixelcnn[colour], 1, naive),
        lambda: sampling(pixelcnn[colour], 256, 2),
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
