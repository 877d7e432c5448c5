"""Distributions whose masses are integers: cumulative counts instead of probabilities.

A channel with cumulative counts C(v), v = 0 .. L−1, C(−1) = 0, gives level v the probability (C(v) − C(v−1)) / C(L−1). Every count is an exact integer
below 2^53, the difference is at least 1, and the probabilities sum to one by construction. What evaluation reports and what a coder
spends come from the same counts.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from codelength.pixels.distribution import ChannelDistribution, PixelDistribution

COUNT_LIMIT = 2**53
"""Counts are held in float64, which is exact and, on CPUs, faster than int64."""


class IntegerChannel(ChannelDistribution):
    """One channel at every site, (B, *S), by cumulative counts."""

    @property
    @abstractmethod
    def total(self) -> Tensor:
        """C(L − 1), float64 integers (B, *S)."""

    @abstractmethod
    def below(self, value: Tensor) -> Tensor:
        """C(value − 1): the counts of all levels under `value` in 0 .. L, float64 integers (B, *S)."""

    def between(self, value: Tensor) -> Tensor:
        """`below` for values in 1 .. L − 1 only, where it may be quicker."""
        return self.below(value)

    def counts(self, value: Tensor) -> Tensor:
        """The count of a level, C(value) − C(value − 1), float64 integers (B, *S), at least 1."""
        return self.below(value + 1) - self.below(value)

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.log(self.counts(value)) - torch.log(self.total)

    def probs(self) -> Tensor:
        shape = self.total.shape
        levels = [torch.full(shape, level, device=self.total.device) for level in range(self.levels + 1)]
        return torch.stack([self.below(level) for level in levels], dim=-1).diff(dim=-1) / self.total.unsqueeze(-1)

    def cdf(self, value: Tensor) -> Tensor:
        return self.below((value + 1).clamp(0, self.levels)) / self.total

    def sample(self, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        if temperature != 1.0:
            return self._sample_sharpened(generator, temperature)
        device = generator.device if generator is not None else torch.device("cpu")
        uniform = torch.rand(self.total.shape, generator=generator, dtype=torch.float64, device=device)
        target = (uniform.to(self.total.device) * self.total).floor()
        return self.search(target)

    def search(self, target: Tensor) -> Tensor:
        """The level v with C(v − 1) <= target < C(v), int64 (B, *S), by bisection."""
        low = torch.zeros(target.shape, dtype=torch.long, device=target.device)
        high = torch.full_like(low, self.levels)
        while bool((high - low > 1).any()):
            middle = (low + high) // 2
            upper = self.below(middle) <= target
            low, high = torch.where(upper, middle, low), torch.where(upper, high, middle.maximum(low + 1))
        return low

    def _sample_sharpened(self, generator: torch.Generator | None, temperature: float) -> Tensor:
        probs = self.probs()
        if temperature == 0:
            return probs.argmax(-1)
        cumulative = (probs.log() / temperature).softmax(-1).cumsum(-1)
        device = generator.device if generator is not None else torch.device("cpu")
        uniform = torch.rand(self.total.shape, generator=generator, dtype=torch.float64, device=device)
        above = cumulative < uniform.to(cumulative.device).unsqueeze(-1)
        return above.sum(-1).clamp(max=self.levels - 1)


class IntegerDistribution(PixelDistribution):
    """A datum's distribution whose channels are all `IntegerChannel`s."""

    @abstractmethod
    def channel(self, c: int, previous: Tensor) -> IntegerChannel:
        """Channel c at every site given the levels of the channels before it, (B, c, *S)."""


class IntegerCategorical(IntegerChannel):
    """A table of weights a site, for few levels.

    Args:
        weights: Integers of at least 0, (B, *S, levels), whose sum stays within 2^52.
    """

    def __init__(self, weights: Tensor) -> None:
        self.levels = weights.shape[-1]
        # Twice the weight plus one: nothing is impossible, and nothing else changes.
        cumulative = (weights.double() * 2 + 1).cumsum(-1)
        self._below = torch.cat([torch.zeros_like(cumulative[..., :1]), cumulative], dim=-1)

    @property
    def total(self) -> Tensor:
        return self._below[..., -1]

    def below(self, value: Tensor) -> Tensor:
        return self._below.gather(-1, value.unsqueeze(-1)).squeeze(-1)
