"""Sums and differences of probabilities in log space."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log1mexp(x: Tensor) -> Tensor:
    """log(1 − exp(−x)) for x > 0, accurate at both ends.

    Reference: Mächler, "Accurately computing log(1 − exp(−|a|))", 2012, eq. (7). The branch that is not used is
    fed a harmless value, so that its gradient cannot be NaN.

    >>> round(float(log1mexp(torch.tensor(1e-10, dtype=torch.float64))), 4)
    -23.0259
    """
    small = x < math.log(2)
    half = torch.full_like(x, 0.5)
    return torch.where(
        small,
        torch.log(-torch.expm1(-torch.where(small, x, half))),
        torch.log1p(-torch.exp(-torch.where(small, half, x))),
    )


def log_mean_exp(log_weights: Tensor, dim: int = 0) -> Tensor:
    """log (1/K) Σ_k exp(log_weights_k) along `dim`, nats.

    >>> float(log_mean_exp(torch.tensor([0.0, 0.0, 0.0])))
    0.0
    """
    return torch.logsumexp(log_weights, dim=dim) - math.log(log_weights.shape[dim])
