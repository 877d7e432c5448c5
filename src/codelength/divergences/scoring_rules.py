"""Scoring rules: what a forecast q pays when x happens. Costs: lower is better.

A rule is proper if nobody who believes p does better in expectation than by saying p, and strictly proper if nothing else does as
well. E_p S(q, x) − E_p S(p, x) is then a divergence: log gives KL, Brier the squared distance, CRPS the integrated squared
difference of CDFs, Hyvärinen's the score divergence. `linear`, the probability itself, is improper: it rewards exaggeration.

Reference: Gneiting and Raftery, JASA 102, 2007.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from codelength.errors import UsageError


def log_score(probabilities: Tensor, x: Tensor) -> Tensor:
    """−log q(x), nats: (N, K) or (K,) probabilities, outcomes (N,)."""
    return -_of_outcomes(probabilities, x).log()


def brier(probabilities: Tensor, x: Tensor) -> Tensor:
    """Σ_k (q_k − [x = k])², (N,)."""
    return probabilities.square().sum(-1) - 2 * _of_outcomes(probabilities, x) + 1


def linear(probabilities: Tensor, x: Tensor) -> Tensor:
    """−q(x): improper. The best answer to a belief is certainty of its likeliest outcome."""
    return -_of_outcomes(probabilities, x)


def _of_outcomes(probabilities: Tensor, x: Tensor) -> Tensor:
    if x.is_floating_point() or x.ndim != 1 or probabilities.ndim not in (1, 2):
        raise UsageError(f"outcomes {x.dtype} {tuple(x.shape)}; wanted integers (N,) and probabilities (K,) or (N, K)")
    table = probabilities.expand(len(x), -1) if probabilities.ndim == 1 else probabilities
    return table.gather(1, x[:, None])[:, 0]


def crps_gaussian(mean: Tensor, std: Tensor, x: Tensor) -> Tensor:
    """∫ (F(t) − [x <= t])² dt of a Gaussian forecast, in the units of x (Gneiting et al. 2005, eq. (5))."""
    z = (x - mean) / std
    density = torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    return std * (z * (2 * torch.special.ndtr(z) - 1) + 2 * density - 1 / math.sqrt(math.pi))


def crps_samples(samples: Tensor, x: Tensor) -> Tensor:
    """E |Y − x| − ½ E |Y − Y'| of forecasts known by K draws, (K, N) for outcomes (N,): unbiased in K, cost K log K.

    Raises:
        UsageError: There are fewer than 2 draws.
    """
    count = len(samples)
    if count < 2 or samples.shape[1:] != x.shape:
        raise UsageError(
            f"draws {tuple(samples.shape)} for outcomes {tuple(x.shape)}; wanted (K, N) with K >= 2 and (N,)"
        )
    ordered = samples.sort(0).values
    rank = torch.arange(1, count + 1, dtype=samples.dtype)[:, None]
    spread = 2 * ((2 * rank - count - 1) * ordered).sum(0) / (count * (count - 1))  # E |Y − Y'|
    return (samples - x).abs().mean(0) - spread / 2


def hyvarinen_gaussian(mean: Tensor, std: Tensor, x: Tensor) -> Tensor:
    """½ (d/dx log q)² + d²/dx² log q of a Gaussian forecast: needs no normalizing constant."""
    return 0.5 * ((x - mean) / std**2) ** 2 - 1 / std**2
