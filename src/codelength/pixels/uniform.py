"""Uniform pixels: every level equally likely, in closed form (no table of logits)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from codelength.pixels.distribution import ChannelDistribution, PixelDistribution


class UniformChannel(ChannelDistribution):
    """Equally likely levels at sites of shape (B, *S)."""

    def __init__(self, shape: torch.Size, levels: int, device: torch.device | str = "cpu") -> None:
        self.shape, self.levels, self.device = shape, levels, torch.device(device)

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.full(value.shape, -math.log(self.levels), dtype=torch.float64, device=value.device)

    def probs(self) -> Tensor:
        mass = torch.full((1,), 1 / self.levels, dtype=torch.float64, device=self.device)
        return mass.expand(*self.shape, self.levels)

    def cdf(self, value: Tensor) -> Tensor:
        return (value.double() + 1).clamp(0, self.levels) / self.levels

    def sample(self, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        if temperature == 0:
            return torch.zeros(self.shape, dtype=torch.long, device=self.device)
        device = generator.device if generator is not None else self.device
        return torch.randint(self.levels, self.shape, generator=generator, device=device).to(self.device)


class UniformPixels(PixelDistribution):
    """Independent uniform channels at sites of shape *S."""

    def __init__(
        self, batch: int, channels: int, sites: torch.Size, levels: int, device: torch.device | str = "cpu"
    ) -> None:
        self.device = torch.device(device)
        super().__init__(batch, channels, sites, levels)

    def channel(self, c: int, previous: Tensor) -> UniformChannel:
        return UniformChannel(torch.Size((*self.batch_shape, *self.sites)), self.levels, self.device)

    def log_prob_per_dim(self, value: Tensor) -> Tensor:
        self._check(value)
        return torch.full(value.shape, -math.log(self.levels), dtype=torch.float64, device=value.device)

    def log_prob(self, value: Tensor) -> Tensor:
        # One product instead of a sum: exactly −num_dims * ln(levels), so that bits/dim is exactly log2(levels).
        self._check(value)
        nats = self.event_shape.numel() * math.log(self.levels)
        return torch.full(value.shape[:1], -nats, dtype=torch.float64, device=value.device)
