"""Discrete flows on data of known entropy, after the experiments of arXiv:1905.10347, section 4: JSON into results/.

    python benchmarks/discrete_flows.py
    python benchmarks/discrete_flows.py --only 2x10 potts

For each table of K^D masses, drawn from a flat Dirichlet, four models are trained on fresh draws: an autoregressive and a factorized base without a flow, an
autoregressive flow over a factorized base, and over an autoregressive one, and a bipartite flow over a factorized base. Their negative log-likelihood is the exact expectation over the table, in
nats, beside the table's entropy. For flows: the share of mapped sites whose σ is not 1 and of outcomes that the flow moves, and the number of outcomes whose latents are distinct (all).
For two dims the least that one autoregressive layer over a factorized base can reach is given too.
Potts lattices and sums of numbers are scored on 4,000 fresh draws, with standard error. Experiments that the results hold with the same settings are not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codelength import Space
from codelength.data.synthetic import (
    Potts,
    draw_addition,
    entropy_nats,
    full_rank_table,
    load_addition,
    sample_table,
)
from codelength.models.discrete_flows.discrete_flow import DiscreteFlow
from codelength.models.discrete_flows.modular import invertible_residues

MODELS: dict[str, dict[str, Any]] = {
    "autoregressive base": {"layers": 0, "base": "autoregressive"},
    "factorized base": {"layers": 0},
    "autoregressive flow, factorized base": {"flow": "autoregressive", "layers": 1},
    "autoregressive flow, autoregressive base": {"flow": "autoregressive", "layers": 1, "base": "autoregressive"},
    "bipartite flow, factorized base": {"flow": "bipartite", "layers": 4},
}
TABLES = ((2, 2), (2, 5), (2, 10), (3, 5), (5, 5))
"""(dims, levels)"""
BATCH, RATE = 512, 5e-3
Draw = Callable[[int], Tensor]


def train(model: DiscreteFlow, draw: Draw, steps: int) -> None:
    """Adam with a cosine decay on fresh draws."""
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        loss = -model.log_prob(draw(BATCH)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def uses(model: DiscreteFlow, x: Tensor) -> dict[str, Any]:
    """How a trained flow differs from the identity on data."""
    if not model.stack:
        return {}
    scales = [scale[:, moved] for _, scale, moved in model.layer_parameters(x)]
    latents = model.latents(x)
    moved = (latents != x.flatten(1)).any(1)
    distinct = len(latents.unique(dim=0)) == len(x.unique(dim=0))
    assert torch.equal(model.from_latents(latents), x), "the flow does not invert"
    return {
        "share_of_scales_not_1": float(np.mean([float((scale != 1).float().mean()) for scale in scales])),
        "share_of_outcomes_moved": float(moved.float().mean()),
        "latents_distinct": distinct,
    }


def compare(
    space: Space, draw: Draw, score: Callable[[Any], dict[str, float]], x: Tensor, hidden: list[int], steps: int
) -> dict[str, Any]:
    """Train each of MODELS and score it."""
    results: dict[str, Any] = {}
    for name, options in MODELS.items():
        start = time.process_time()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = DiscreteFlow(space, hidden=hidden, **options)
        train(model, draw, steps)
        with torch.no_grad():
            results[name] = {**score(model), **uses(model, x), "cpu_seconds": round(time.process_time() - start, 1)}
        print(f"  {name}: {results[name]}", flush=True)
    return results


def table_experiment(dims: int, levels: int, steps: int) -> dict[str, Any]:
    """One full-rank table."""
    table = full_rank_table(dims, levels)
    space, rng = Space.image(1, 1, dims, levels), np.random.default_rng(1)
    every = torch.from_numpy(np.indices(table.shape).reshape(dims, -1).T.copy()).view(-1, 1, 1, dims)
    masses = torch.from_numpy(table.ravel())

    def draw(count: int) -> Tensor:
        return torch.from_numpy(sample_table(table, count, rng).astype(np.int64)).view(-1, 1, 1, dims)

    def score(model: DiscreteFlow) -> dict[str, float]:
        log_prob = torch.cat([model.log_prob(part) for part in every.split(4096)])
        return {"nats": float(-(masses * log_prob).sum()), "total_mass": float(log_prob.exp().sum())}

    entropy = entropy_nats(table)
    print(f"{dims} dims, {levels} levels: entropy {entropy:.3f} nats", flush=True)
    hidden = [min(512, 64 * max(1, levels ** (dims - 1) // 16))]
    return {
        "dims": dims,
        "levels": levels,
        "entropy_nats": entropy,
        "hidden": hidden,
        "models": compare(space, draw, score, every, hidden, steps),
    }


def best_map(table: np.ndarray) -> dict[str, Any]:
    """The least negative log-likelihood that an autoregressive location-scale flow over a factorized base can have on a table of two dims, nats.

    The flow permutes each row's masses by one of K φ(K) maps; with the best base it has H(x_1) + H(Σ_i p_i π_i(row_i)). All maps are tried, or, where there are more than 2^20, each row's
    in turn from 200 random starts, which gives an upper bound.
    """
    levels = len(table)
    z = np.arange(levels)
    maps = np.stack([(m + s * z) % levels for s in invertible_residues(levels).tolist() for m in range(levels)])
    rows = table[:, maps].transpose(1, 0, 2)  # (maps, rows, K): masses of each row's latents under each map
    exhaustive = len(maps) ** (levels - 1) <= 2**20
    if exhaustive:
        sums = rows[0, 0][None]  # one row may stay as it is
        for row in range(1, levels):
            sums = (sums[:, None] + rows[None, :, row]).reshape(-1, levels)
        least = float(entropies(sums).min())
    else:
        rng, least = np.random.default_rng(0), math.inf
        for _ in range(200):
            chosen = rows[rng.integers(0, len(maps), levels), np.arange(levels)]
            before = math.inf
            while (now := float(entropies(chosen.sum(0)[None])[0])) < before - 1e-12:
                before = now
                for row in range(levels):
                    rest = chosen.sum(0) - chosen[row]
                    chosen[row] = rows[entropies(rest + rows[:, row]).argmin(), row]
            least = min(least, before)
    return {"nats": float(entropies(table.sum(1)[None])[0]) + least, "exhaustive": exhaustive}


def entropies(masses: np.ndarray) -> np.ndarray:
    """Entropy of each row, nats."""
    found: np.ndarray = -(masses * np.log(masses)).sum(-1)
    return found


def sampled_experiment(space: Space, draw: Draw, entropy: float, hidden: list[int], steps: int) -> dict[str, Any]:
    """Data whose outcomes are too many to sum over."""
    held_out = draw(4000)

    def score(model: DiscreteFlow) -> dict[str, float]:
        nats = -torch.cat([model.log_prob(part) for part in held_out.split(500)])
        return {"nats": float(nats.mean()), "standard_error": float(nats.std() / math.sqrt(len(nats)))}

    print(f"{space.shape}, {space.levels} levels: entropy {entropy:.3f} nats", flush=True)
    return {
        "entropy_nats": entropy,
        "hidden": hidden,
        "models": compare(space, draw, score, held_out[:1000], hidden, steps),
    }


def potts_experiment(steps: int) -> dict[str, Any]:
    """A lattice of 4 x 4 sites of 3 states."""
    lattice, rng = Potts(4, 3, 0.5), np.random.default_rng(1)

    def draw(count: int) -> Tensor:
        return torch.from_numpy(lattice.sample(count, rng).astype(np.int64)).unsqueeze(1)

    return sampled_experiment(Space.image(1, 4, 4, 3), draw, lattice.entropy_nats(), [128], steps)


def addition_experiment(steps: int) -> dict[str, Any]:
    """Two numbers of three digits and their sum, character by character."""
    digits, rng = 3, np.random.default_rng(1)

    def draw(count: int) -> Tensor:
        return torch.from_numpy(draw_addition(count, digits, rng).astype(np.int64))

    return sampled_experiment(load_addition(digits=digits).space, draw, 2 * digits * math.log(10), [256], steps)


EXPERIMENTS: dict[str, Callable[[int], dict[str, Any]]] = {
    **{f"{dims}x{levels}": partial(table_experiment, dims, levels) for dims, levels in TABLES},
    "potts": potts_experiment,
    "addition": addition_experiment,
}


def main() -> None:
    """Run the experiments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(EXPERIMENTS), default=list(EXPERIMENTS), metavar="NAME")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "discrete_flows.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = {"steps": arguments.steps, "batch": BATCH, "learning_rate": RATE, "torch": torch.__version__}
    found: dict[str, Any] = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    if {name: found.get(name) for name in settings} != settings:
        found = {**settings, "experiments": {}}
    for name in arguments.only:
        if name not in found["experiments"]:
            found["experiments"][name] = EXPERIMENTS[name](arguments.steps)
        result = found["experiments"][name]
        if result.get("dims") == 2 and "best_map" not in result:
            result["best_map"] = best_map(full_rank_table(2, result["levels"]))
            print(name, result["best_map"])
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    print(arguments.out)


if __name__ == "__main__":
    main()
