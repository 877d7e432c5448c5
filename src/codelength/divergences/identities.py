"""What code lengths, entropies and divergences have to do with each other: identities that the tests hold to account.

cross entropy    −E_p log q = H(p) + KL(p ‖ q): the difference of two models' code lengths is the difference of their KLs, and
                 the entropy, which nobody knows, cancels
squared error    is a code length: of a Gaussian with a fixed spread
memorization     a model that knows its N training data by heart spends log N nats on each, and not less on average
perplexity       exp of the code length of a token
mixture          log(λ p + (1 − λ) r) >= log p + log λ: 1% of a good model is at most 4.61 nats worse than the good model
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from codelength.divergences import tables
from codelength.errors import UsageError


def kl_difference(code_length_a: Tensor, code_length_b: Tensor) -> float:
    """KL(p ‖ a) − KL(p ‖ b), nats, estimated from the code lengths of the same data, (N,): no density of p is needed."""
    if code_length_a.shape != code_length_b.shape:
        raise UsageError(
            f"code lengths {tuple(code_length_a.shape)} and {tuple(code_length_b.shape)}; wanted the same data in both"
        )
    return float((code_length_a - code_length_b).double().mean())


def squared_error_of_code_length(code_length: Tensor, std: float, num_dims: int) -> Tensor:
    """Sum of squared errors of a Gaussian forecast with this spread, from its code length in nats: 2 σ² (L − D log √(2π σ²))."""
    return 2 * std**2 * (code_length - num_dims * 0.5 * math.log(2 * math.pi * std**2))


def code_length_of_squared_error(squared_error: Tensor, std: float, num_dims: int) -> Tensor:
    """Nats of data whose squared errors, summed over dims, are these: e / (2 σ²) + D log √(2π σ²)."""
    return squared_error / (2 * std**2) + num_dims * 0.5 * math.log(2 * math.pi * std**2)


def best_spread(squared_error: Tensor, num_dims: int) -> float:
    """The σ that makes the mean code length of these squared errors least: the root of the mean error a dim."""
    return math.sqrt(float(squared_error.mean()) / num_dims)


def memorization_gap(train: Tensor, q: Tensor) -> float:
    """Mean code length of training outcomes, (N,), under a table q less its least possible value, nats: never negative.

    The least is the entropy of the training data's own table; log N where all N data differ.
    """
    counts = torch.bincount(train, minlength=len(q)).double()
    return float(tables.kl(counts / counts.sum(), q))


def log_mixture(log_p: Tensor, log_other: Tensor, weight: float = 0.01) -> Tensor:
    """log(weight · p + (1 − weight) · other), nats: Theis et al.'s mixture.

    Raises:
        UsageError: The weight is no probability between 0 and 1.

    Reference: Theis et al., arXiv:1511.01844, section 3.2: its samples are noise 99 times of 100.
    """
    if not 0 < weight < 1:
        raise UsageError(f"weight={weight}; wanted a number between 0 and 1")
    return torch.logaddexp(log_p + math.log(weight), log_other + math.log1p(-weight))
