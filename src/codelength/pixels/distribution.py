"""The interface of distributions over one datum's integers, given a network's outputs.

A datum has C channels at S sites: an image (C, H, W), a sequence (1, T). Parameters arrive as one tensor of shape
(B, P, *S): P numbers a site. The channels of a site may depend on each other (RGB coupling); sites are independent
given the parameters, because whatever dependence there is between sites is the network's work.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

NO_SHAPE = torch.Size()


class ChannelDistribution(ABC):
    """One channel at every site, given the channels before it: what is sampled or coded in one go.

    Values are integers 0 .. levels − 1 of shape (B, *S).
    """

    levels: int

    @abstractmethod
    def log_prob(self, value: Tensor) -> Tensor:
        """Log mass of each value, nats, (B, *S)."""

    @abstractmethod
    def probs(self) -> Tensor:
        """The table of masses, (B, *S, levels), float64; each row sums to 1 up to round-off."""

    def cdf(self, value: Tensor) -> Tensor:
        """P(X <= value), (B, *S), float64: 0 below the support, 1 at its last level and above."""
        inside = value.clamp(0, self.levels - 1).unsqueeze(-1)
        cdf = self.probs().cumsum(-1).gather(-1, inside).squeeze(-1)
        cdf = torch.where(value < 0, torch.zeros_like(cdf), cdf)
        return torch.where(value >= self.levels - 1, torch.ones_like(cdf), cdf)

    @abstractmethod
    def sample(self, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        """Draw integers, (B, *S). `temperature` below 1 sharpens the distribution, 0 gives its likely value."""

    @property
    def mean(self) -> Tensor:
        """Expected value, (B, *S), float64."""
        probs = self.probs()
        return probs @ torch.arange(self.levels, dtype=probs.dtype, device=probs.device)

    @property
    def mode(self) -> Tensor:
        """Most probable value, int64, (B, *S)."""
        return self.probs().argmax(-1)


class PixelDistribution(Distribution, ABC):
    """A distribution over one datum: batch shape (B,), event shape (C, *S), integer support 0 .. levels − 1.

    Subclasses give `channel`; everything else follows by the chain rule over channels.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, batch: int, channels: int, sites: torch.Size, levels: int) -> None:
        self.levels, self.channels, self.sites = levels, channels, sites
        super().__init__(torch.Size((batch,)), torch.Size((channels, *sites)), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """The integers 0 .. levels − 1."""
        return constraints.independent(constraints.integer_interval(0, self.levels - 1), 1 + len(self.sites))

    @abstractmethod
    def channel(self, c: int, previous: Tensor) -> ChannelDistribution:
        """Channel c at every site given the channels before it.

        Args:
            c: Channel, 0 .. C − 1.
            previous: Values of channels 0 .. c − 1, (B, c, *S); further channels are ignored.
        """

    def log_prob_per_dim(self, value: Tensor) -> Tensor:
        """log P of each dim given the channels before it at its site, nats, (B, C, *S)."""
        self._check(value)
        return torch.stack([self.channel(c, value[:, :c]).log_prob(value[:, c]) for c in range(self.channels)], dim=1)

    def log_prob(self, value: Tensor) -> Tensor:
        """log P of each datum, nats, (B,), float64: in float32 the sum of 3,072 terms loses the sixth digit."""
        return self.log_prob_per_dim(value).flatten(1).sum(1, dtype=torch.float64)

    def log_prob_of_draws(self, value: Tensor, k: int) -> Tensor:
        """log P of B data under k distributions each, nats, (k, B), float64.

        Args:
            value: Integers, (B, C, *S).
            k: The distribution's batch is k · B, the B of the first draw first.
        """
        return self.log_prob(value.repeat(k, *[1] * (value.ndim - 1))).unflatten(0, (k, len(value)))

    def sample(  # type: ignore[override]
        self,
        sample_shape: torch.Size = NO_SHAPE,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Draw integers, (*sample_shape, B, C, *S), from `generator` (the global one without it)."""
        with torch.no_grad():
            draws = [self._sample_once(generator, temperature) for _ in range(sample_shape.numel())]
        return torch.stack(draws).reshape(*sample_shape, *draws[0].shape)

    def _sample_once(self, generator: torch.Generator | None, temperature: float) -> Tensor:
        value = torch.zeros((*self.batch_shape, 0, *self.sites), dtype=torch.long)
        for c in range(self.channels):
            drawn = self.channel(c, value).sample(generator, temperature).unsqueeze(1)
            value = torch.cat([value.to(drawn.device), drawn], dim=1)
        return value

    def _greedy(self, of: str) -> Tensor:
        levels: list[Tensor] = []
        values: list[Tensor] = []
        for c in range(self.channels):
            previous = (
                torch.stack(levels, dim=1)
                if levels
                else torch.zeros((*self.batch_shape, 0, *self.sites), dtype=torch.long)
            )
            value = getattr(self.channel(c, previous), of)
            values.append(value)
            levels.append(value.round().long())
        return torch.stack(values, dim=1)

    @property
    def mean(self) -> Tensor:
        """Expected value of each channel given the channels before it at their (rounded) means, (B, C, *S), float64.

        Where channels are independent given the network's outputs this is the exact mean.
        """
        return self._greedy("mean")

    @property
    def mode(self) -> Tensor:
        """Most probable value of each channel given the modes of the channels before it, int64, (B, C, *S)."""
        return self._greedy("mode")

    def expand(self, batch_shape: Any, _instance: Any = None) -> PixelDistribution:
        """Not supported: the batch is the network's batch."""
        raise NotImplementedError("expand: call the network on the batch you want instead")

    def _check(self, value: Tensor) -> None:
        if value.shape[1:] != self.event_shape:
            raise ValueError(
                f"{type(self).__name__}: value {tuple(value.shape)}; wanted (B, {', '.join(map(str, self.event_shape))})"
            )
        if value.is_floating_point():
            raise ValueError(
                f"{type(self).__name__}: value of dtype {value.dtype}; wanted integers 0..{self.levels - 1}"
            )
        if value.numel() and not (int(value.min()) >= 0 and int(value.max()) < self.levels):
            raise ValueError(
                f"{type(self).__name__}: values {int(value.min())}..{int(value.max())} leave the support 0..{self.levels - 1}"
            )
