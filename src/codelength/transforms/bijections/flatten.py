"""Flatten: data of any shape as vectors."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from codelength.transforms.transform import Transform, zero_log_det


class Flatten(Transform):
    """(B, *shape) to (B, D).

    Args:
        shape: Shape of one datum.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (math.prod(shape),)

    def input_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.shape

    def forward(self, x: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        return x.flatten(1), zero_log_det(x)

    def inverse(self, z: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        return z.unflatten(1, self.shape), zero_log_det(z)
