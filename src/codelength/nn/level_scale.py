"""From levels to a network's inputs: the range on [−1, 1], or above 256 levels the part of it that data fill."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDE_LEVELS = 256
"""Up to so many levels the range itself is the scale; above it the scale follows from the data."""


class LevelScale(nn.Module):
    """Scale levels for a network.

    16-bit files rarely fill their 65,536 levels. A network that sees them on the range's scale sees constants, so above 256
    levels mean and spread come from data, saved with the weights; until then the range is the scale.

    Args:
        levels: Number of levels.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.adapts = levels > WIDE_LEVELS
        if self.adapts:
            half_range = (levels - 1) / 2
            self.statistics: Tensor
            self.register_buffer("statistics", torch.tensor([half_range, half_range]))  # mean, spread

    @torch.no_grad()
    def fit(self, levels: Tensor) -> None:
        """Take mean and spread of data; nothing where the range is the scale."""
        if self.adapts:
            spread, mean = torch.std_mean(levels.double(), correction=0)
            # Twice the standard deviation spans what is usual; constant data have no scale of their own.
            self.statistics.copy_(torch.stack([mean, 2 * spread.clamp(min=1.0)]))

    @property
    def span(self) -> Tensor | None:
        """Centre and half width of that part on the scale where the levels span [−1, 1]; None where it is all of it."""
        if not self.adapts:
            return None
        half_range = (self.levels - 1) / 2
        mean, spread = self.statistics
        return torch.stack([mean / half_range - 1, spread / half_range])

    def forward(self, levels: Tensor, dtype: torch.dtype) -> Tensor:
        """Levels, any shape, on about [−1, 1]."""
        if self.adapts:
            mean, spread = self.statistics.to(dtype)
            return (levels.to(dtype) - mean) / spread
        return levels.to(dtype) * (2 / (self.levels - 1)) - 1
