"""Checkerboard: the two colours of the sites become two halves of the channels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from codelength.transforms.transform import Transform, zero_log_det


class Checkerboard(Transform):
    """(B, C, H, W) to (B, 2C, H, W / 2): sites with row + column even, then the others. Volume-preserving.

    A coupling that splits the channels then couples the colours, without computing at the sites of the other.
    """

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        channels, height, width = shape
        if width % 2:
            raise ValueError(f"Checkerboard: {height} x {width} sites; wanted an even width. Pad or crop the images")
        return 2 * channels, height, width // 2

    def input_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        channels, height, width = shape
        return channels // 2, height, 2 * width

    @staticmethod
    def _flip_odd_rows(pairs: Tensor) -> Tensor:
        """Exchange the two columns of each pair, (B, C, H, W / 2, 2), in the odd rows."""
        odd = (torch.arange(pairs.shape[2], device=pairs.device) % 2 == 1).reshape(-1, 1, 1)
        return torch.where(odd, pairs.flip(-1), pairs)

    def forward(self, x: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        even, odd = self._flip_odd_rows(x.unflatten(3, (-1, 2))).unbind(-1)
        return torch.cat([even, odd], dim=1), zero_log_det(x)

    def inverse(self, z: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        pairs = torch.stack(z.chunk(2, dim=1), dim=-1)
        return self._flip_odd_rows(pairs).flatten(3), zero_log_det(z)
