"""Annealed importance sampling: an unbiased, nonnegative estimate of Σ p or ∫ p, without knowing where p has its mass.

Chains start at a normalized reference r and pass through r^(1 − β) p^β, β from 0 to 1, by Metropolis moves. The product w of the ratios
met on the way has E w = Σ p exactly, so it is evidence like any other ratio (`evidence`). Its mean log underestimates log Σ p, so
that a large value is trustworthy and a small one may only be a hard problem.

Reference: Neal, "Annealed importance sampling", arXiv:physics/9803008.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

LogP = Callable[[np.ndarray], np.ndarray]


class Base(Protocol):
    """A normalized distribution with which chains start."""

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n points, (n, D)."""

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """Log probability or density, (n,)."""


# (states (n, D), rng) -> proposals (n, D); symmetric
# A chain that changes each dim fewer times than this has not had the time to find where p has its mass.
SWEEPS = 15

Move = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def level_moves(levels: int) -> Move:
    """Symmetric moves among levels: one dim to any level, one dim by a small step, or a few dims at once."""

    def move(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        n, dims = x.shape
        share = rng.choice([0.0, 0.0, 2.0 / dims, 0.1])
        chosen = rng.random((n, dims)) < share
        chosen[np.arange(n), rng.integers(dims, size=n)] = True
        if levels > 8 and rng.random() < 0.6:
            width = int(rng.choice([1, max(1, levels // 64), max(1, levels // 16)]))
            step = rng.integers(1, width + 1, size=(n, dims)) * rng.choice([-1, 1], size=(n, dims))
            proposal = (x + step) % levels  # on a circle, so that the move is symmetric at the ends
        else:
            proposal = rng.integers(levels, size=(n, dims))
        return np.where(chosen, proposal, x)

    return move


def real_moves(scale: np.ndarray) -> Move:
    """Gaussian moves of one dim, a few, or all, at widths from 2 down to 1/300 of `scale`, (D,)."""

    def move(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        n, dims = x.shape
        chosen = rng.random((n, dims)) < rng.choice([0.0, 2.0 / dims, 1.0])
        chosen[np.arange(n), rng.integers(dims, size=n)] = True
        width = scale * np.exp(rng.uniform(np.log(1 / 300), np.log(2), size=(n, 1)))
        return x + np.where(chosen, width * rng.standard_normal((n, dims)), 0.0)

    return move


def affordable_steps(log_p: LogP, base: Base, chains: int, wanted: int, seconds: float, seed: int = 0) -> int:
    """How many of `wanted` temperatures chains can take in `seconds`, by the cost of scoring their states; 8 at least."""
    x = base.sample(chains, np.random.default_rng(seed))
    log_p(x)
    started = time.process_time()
    base.log_prob(x)
    log_p(x)
    cost = 1.5 * (time.process_time() - started)  # proposals and the rest take about half as long again
    return max(8, min(wanted, int(seconds / max(cost, 1e-6))))


def anneal(
    log_p: LogP, base: Base, move: Move, *, chains: int, steps: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Log weights (chains,) with E exp = Σ p, and the final states (chains, D).

    Args:
        log_p: Log of the possibly unnormalized p, of states (n, D) -> (n,); −inf where it is 0.
        base: Where chains start.
        move: Symmetric proposals.
        chains, steps: Size of the run.
        rng: Source of randomness.
    """
    x = base.sample(chains, rng)
    log_q, log_target = base.log_prob(x), log_p(x)
    weights = np.zeros(chains)
    beta_before = 0.0
    for t in range(1, steps + 1):
        beta = _schedule(t / steps)
        # 0 * −inf: a state outside the support has weight 0 from the first temperature on.
        weights = weights + (beta - beta_before) * (log_target - log_q)
        if t < steps:
            proposal = move(x, rng)
            q_new, p_new = base.log_prob(proposal), log_p(proposal)
            with np.errstate(invalid="ignore"):  # −inf on both sides: neither state has mass yet, and any move is taken
                gain = _tempered(q_new, p_new, beta) - _tempered(log_q, log_target, beta)
            accept = np.log(rng.random(chains)) < np.nan_to_num(gain, nan=0.0, posinf=np.inf, neginf=-np.inf)
            x = np.where(accept[:, None], proposal, x)
            log_q, log_target = np.where(accept, q_new, log_q), np.where(accept, p_new, log_target)
        beta_before = beta
    return weights, x


def _tempered(log_q: np.ndarray, log_p: np.ndarray, beta: float) -> np.ndarray:
    return np.asarray((1 - beta) * log_q + beta * log_p)


def _schedule(t: float) -> float:
    """Inverse temperatures: small steps at first, where a reference far from p gives the largest ratios."""
    return float(t**2)


def model_log_p(function: Callable[[Tensor], Tensor], shape: tuple[int, ...], offset: int = 0) -> LogP:
    """A model's function of tensors (n, *shape) as one of flat arrays (n, D)."""

    def log_p(x: np.ndarray) -> np.ndarray:
        values = torch.from_numpy(np.ascontiguousarray(x)).reshape(len(x), *shape)
        return function(values + offset).numpy()

    return log_p
