"""The interface of dequantizers: from integers to reals inside their bins."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from codelength.randomness import Noise


class Dequantizer(nn.Module, ABC):
    """A distribution q(y | x) over the bin [x, x + 1) of each integer x.

    It is stochastic: its log density is a term of a bound on P(x), never part of an exact log-likelihood.
    """

    @abstractmethod
    def sample(
        self, x: Tensor, k: int, generator: Noise, *, dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor]:
        """Draw y ~ q(. | x), k times.

        Args:
            x: Integers, (B, ...).
            k: Samples of each datum.
            generator: Noise; given `ExampleNoise`, y depends on the example and the sample's index alone.
            dtype: Floating-point type of y.

        Returns:
            y, (k, B, ...), with floor(y) = x, and log q(y | x), nats, (k, B).
        """
