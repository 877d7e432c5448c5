"""Squeeze: space to channels."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from codelength.transforms.transform import Transform, zero_log_det


class Squeeze(Transform):
    """(B, C, H, W) to (B, C f², H / f, W / f): every f x f block becomes f² channels. Volume-preserving.

    Args:
        factor: f.

    Reference: RealNVP, arXiv:1605.08803, section 3.6.
    """

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        channels, height, width = shape
        if height % self.factor or width % self.factor:
            raise ValueError(f"Squeeze: {height} x {width} sites are no multiple of {self.factor}; use fewer scales")
        return channels * self.factor**2, height // self.factor, width // self.factor

    def forward(self, x: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        return pixel_unshuffle(x, self.factor), zero_log_det(x)

    def inverse(self, z: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        return pixel_shuffle(z, self.factor), zero_log_det(z)
