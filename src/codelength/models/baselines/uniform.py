"""The uniform model: every value equally likely, log2(levels) bits/dim exactly.

It has nothing to learn. If it does not score 8.000 bits/dim on 8-bit data, grey or RGB, nothing else counts.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from codelength.models.autoregressive.base import all_sites
from codelength.models.base import LikelihoodModel, Positions
from codelength.pixels import UniformPixels
from codelength.space import Space


class Uniform(LikelihoodModel):
    """P(x) = levels^−num_dims.

    Args:
        space: What a datum is, of any kind. Sizes may be open for `log_prob`.
    """

    def __init__(self, space: Space) -> None:
        super().__init__(space)

    def log_prob(self, x: Tensor) -> Tensor:
        """−num_dims * ln(levels) for every datum, nats, (B,), float64."""
        x = self.space.validate(x)
        nats = math.prod(x.shape[1:]) * math.log(self.space.levels)
        return torch.full(x.shape[:1], -nats, dtype=torch.float64, device=x.device)

    def conditionals(self, x: Tensor) -> UniformPixels:
        """Uniform distribution of every dim; data without a channel dim count as one channel."""
        channels = x.shape[1] if x.dim() > 2 else 1
        return UniformPixels(len(x), channels, x.shape[2:] if x.dim() > 2 else x.shape[1:], self.space.levels, x.device)

    @property
    def schedule(self) -> list[Positions]:
        """All sites of an image in one step."""
        _, height, width = self.space.sizes
        return all_sites(height, width)

    def init_state(self, n: int, **conditions: Tensor) -> int:
        """The number of data."""
        self.check_conditions(conditions, n)
        return n

    def step(self, state: int, values: Tensor | None) -> tuple[UniformPixels, int]:
        """Uniform distribution of all sites of an image."""
        channels, height, width = self.space.sizes
        return UniformPixels(state, channels, torch.Size((height * width,)), self.space.levels), state

    def sample(self, n: int, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """Draw n data, (n, *space.shape) int64."""
        draws = torch.randint(self.space.levels, (n, *self.space.sizes), generator=generator, device=generator.device)
        return draws + self.space.offset
