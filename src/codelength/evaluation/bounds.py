"""Multi-sample bounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from codelength.models.base import LikelihoodModel


@dataclass(frozen=True)
class BatchBound:
    """Bounds of a batch."""

    bound: Tensor
    elbo: Tensor
    ess: Tensor
    k_hat: Tensor
    curve: dict[int, Tensor]


def bound_batch(
    model: LikelihoodModel, x: Tensor, examples: np.ndarray, *, samples: int, seed: int, conditions: dict[str, Tensor]
) -> BatchBound:
    """log (1/K) Σ_k w_k for each datum."""
    raise NotImplementedError
