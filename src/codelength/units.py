"""Nats inside, bits at the edge: the one conversion of each kind."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from torch import Tensor

Number = TypeVar("Number", float, np.ndarray, Tensor)


def bits_per_dim(nats: Number, num_dims: int) -> Number:
    """Convert a code length in nats per datum to bits per dimension.

    Args:
        nats: Code length −log P(x) in nats, summed over dims: a number, array or tensor.
        num_dims: Numbers per datum, channels included: 3 * 32 * 32 = 3072 for CIFAR-10.

    Returns:
        nats / (num_dims * ln 2), of the same type as `nats`.

    Raises:
        ValueError: `num_dims` is not positive.

    A uniform model over 256 levels scores exactly 8:

    >>> bits_per_dim(784 * math.log(256), 784)
    8.0
    """
    if num_dims <= 0:
        raise ValueError(f"bits_per_dim: num_dims={num_dims}; it counts the numbers per datum and must be positive")
    return nats / (num_dims * math.log(2))


def bits(nats: Number) -> Number:
    """Convert nats to bits.

    >>> bits(math.log(2))
    1.0
    """
    return nats / math.log(2)


def perplexity(nats: float, count: int) -> float:
    """exp(nats / count): the perplexity of `count` tokens, words or bytes that cost `nats` in all.

    Raises:
        ValueError: `count` is not positive.

    >>> round(perplexity(10 * math.log(65), 10), 9)
    65.0
    """
    if count <= 0:
        raise ValueError(f"perplexity: count={count} must be positive")
    return math.exp(nats / count)
