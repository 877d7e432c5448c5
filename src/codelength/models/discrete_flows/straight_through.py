"""Gradients through integers: forward the integer, backward as if nothing had been rounded.

The estimator is biased: it is the gradient of a smooth neighbour of the function, not of the function, whose derivative is zero almost everywhere.

Reference: Bengio et al., arXiv:1308.3432; discrete flows: arXiv:1905.10347, section 3.3; integer flows: arXiv:1905.07376, section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def straight_through_round(x: Tensor) -> Tensor:
    """The nearest integer (halves go up), with the gradient of x.

    floor(x + 1/2) and not `round`, which sends halves to even numbers: integer arithmetic does the same.

    >>> straight_through_round(torch.tensor([0.4, 0.5, -0.5]))
    tensor([0., 1., 0.])
    """
    return x + (torch.floor(x + 0.5) - x).detach()


def straight_through_modulo(x: Tensor, modulus: int) -> Tensor:
    """x mod `modulus` in [0, modulus), with the gradient of x."""
    return x - (torch.floor(x / modulus) * modulus).detach()


def straight_through_one_hot(logits: Tensor, temperature: float) -> Tensor:
    """One-hot vector of the largest of K logits on the last dim, with the gradient of softmax(logits / temperature).

    Args:
        logits: (..., K). −inf excludes an outcome.
        temperature: τ > 0; small ones have less bias and more variance.

    Reference: arXiv:1905.10347, eqs. (8)-(9).
    """
    soft = torch.softmax(logits / temperature, dim=-1)
    hard = F.one_hot(logits.argmax(-1), logits.shape[-1]).to(soft.dtype)
    return soft + (hard - soft).detach()
