"""The interface of bijections, and their composition."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class Transform(nn.Module, ABC):
    """A bijection between data x and latents z, with the log-determinant of its Jacobian.

    `forward` goes from data to latent, `inverse` back. Both return log|det J| of the direction they go, nats, (B,), so
    that log p(x) = log p(z) + log_det_jacobian with the values of `forward`. Neither writes to parameters or buffers,
    in training mode or not: data-dependent parameters are set by `initialize` alone.
    """

    @abstractmethod
    def forward(self, x: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        """z and log|det dz/dx|, (B,), of x, (B, ...)."""

    @abstractmethod
    def inverse(self, z: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        """x and log|det dx/dz|, (B,), of z, (B, ...)."""

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of one latent, given the shape of one datum."""
        return shape

    def input_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of one datum, given the shape of one latent."""
        return shape

    def initialize(self, x: Tensor, **context: Any) -> Tensor:
        """Set data-dependent parameters from a batch x, (B, ...), unless they are set; returns z of that batch."""
        with torch.no_grad():
            return self(x, **context)[0]


def zero_log_det(x: Tensor) -> Tensor:
    """The log-determinant of a volume-preserving map of x, (B, ...): zeros, (B,)."""
    return torch.zeros(x.shape[0], dtype=x.dtype, device=x.device)


class Compose(Transform):
    """Transforms one after the other: log-determinants add.

    Args:
        transforms: In the order in which data pass them.
    """

    def __init__(self, transforms: Iterable[Transform]) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(transforms)

    def forward(self, x: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        from codelength.transforms.fused_step import fused_step  # which knows bijections, and they this file

        total, index = zero_log_det(x), 0
        while index < len(self.transforms):
            step = fused_step(self.transforms, index, x, **context)
            x, log_det_jacobian, count = step or (*self.transforms[index](x, **context), 1)
            total = total + log_det_jacobian
            index += count
        return x, total

    def inverse(self, z: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        total = zero_log_det(z)
        for transform in reversed(self.transforms):
            assert isinstance(transform, Transform)
            z, log_det_jacobian = transform.inverse(z, **context)
            total = total + log_det_jacobian
        return z, total

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        for transform in self.transforms:
            assert isinstance(transform, Transform)
            shape = transform.output_shape(shape)
        return shape

    def initialize(self, x: Tensor, **context: Any) -> Tensor:
        for transform in self.transforms:
            assert isinstance(transform, Transform)
            x = transform.initialize(x, **context)
        return x


class Inverse(Transform):
    """A transform the other way round: its `forward` is the other's `inverse`."""

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        return self.transform.inverse(x, **context)

    def inverse(self, z: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        out: tuple[Tensor, Tensor] = self.transform(z, **context)
        return out

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.transform.input_shape(shape)

    def input_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.transform.output_shape(shape)
