"""Pareto k-hat: how heavy the tail of importance weights is.

Weights whose tail has k >= 1 have no mean, k >= 1/2 no variance; above 0.7 an average of them is not to be trusted.

Reference: Vehtari, Simpson, Gelman, Yao, Gabry, "Pareto smoothed importance sampling", arXiv:1507.02646; the fit is
that of Zhang and Stephens, "A new and efficient estimation method for the generalized Pareto distribution", 2009.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MIN_TAIL = 5


def tail_length(samples: int) -> int:
    """M = min(0.2 K, 3 sqrt K), rounded up: the number of weights that make the tail; arXiv:1507.02646, section 3.

    >>> tail_length(10_000), tail_length(100)
    (300, 20)
    """
    return math.ceil(min(0.2 * samples, 3 * math.sqrt(samples)))


def fit_generalized_pareto(exceedances: Tensor) -> tuple[Tensor, Tensor]:
    """Shape k and scale sigma of a generalized Pareto distribution, for each column.

    The estimate is a posterior mean over a grid of theta = −k / sigma; it needs no iteration.

    Args:
        exceedances: Positive excesses over a threshold, (M, B), float64, M >= 5.

    Returns:
        k, (B,), positive for heavy tails, and sigma, (B,).

    Reference: Zhang and Stephens 2009, eqs. (7)-(9); their k has the opposite sign.
    """
    x = exceedances.sort(dim=0).values  # (M, B)
    m, largest = x.shape[0], x[-1]
    # Ties at the threshold make the quartile zero; a tiny positive one keeps the grid finite.
    quartile = torch.maximum(x[int(m / 4 + 0.5) - 1], largest * 1e-12)
    points = 30 + int(math.sqrt(m))
    j = torch.arange(1, points + 1, dtype=x.dtype, device=x.device).unsqueeze(1)
    theta = 1 / largest + (1 - torch.sqrt(points / (j - 0.5))) / (3 * quartile)  # (points, B)
    k = torch.stack([torch.log1p(-row * x).mean(0) for row in theta])
    log_likelihood = m * (torch.log(-theta / k) - k - 1)
    theta_hat = (theta * torch.softmax(log_likelihood, dim=0)).sum(0)
    k_hat = torch.log1p(-theta_hat * x).mean(0)
    return k_hat, -k_hat / theta_hat


def pareto_k_hat(largest_log_weights: Tensor, samples: int) -> Tensor:
    """k-hat of K log weights of which only the largest are given.

    Args:
        largest_log_weights: The `tail_length(samples)` + 1 largest log weights, in any order, (M + 1, B), nats.
        samples: K.

    Returns:
        (B,), shrunk towards 1/2 by a prior worth ten weights as in the paper; NaN where K < 25 is too few to fit a
        tail, 0 where the weights do not vary and there is no tail.

    Reference: arXiv:1507.02646, section 3 and appendix C (the prior).
    """
    m = tail_length(samples)
    if m < MIN_TAIL:
        return torch.full(largest_log_weights.shape[1:], torch.nan, dtype=torch.float64)
    ordered = largest_log_weights.double().sort(dim=0, descending=True).values[: m + 1]
    weights = torch.exp(ordered - ordered[0])
    exceedances = weights[:-1] - weights[-1]
    constant = exceedances[0] < 1e-12
    harmless = torch.linspace(0.1, 1, m, dtype=torch.float64, device=ordered.device).unsqueeze(1)
    k_hat, _ = fit_generalized_pareto(torch.where(constant, harmless, exceedances))
    k_hat = (k_hat * m + 0.5 * 10) / (m + 10)
    return torch.where(constant, torch.zeros_like(k_hat), k_hat)
