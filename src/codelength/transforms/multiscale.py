"""Multi-scale architecture: half of the channels leave after every scale, the rest go on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from codelength.transforms.transform import Transform, zero_log_det


class MultiScale(Transform):
    """Factor out half of the channels after each stage but the last; the latent is flat.

    Args:
        stages: One transform a scale. All but the last must return an even number of channels: the first half goes
            on to the next stage, the second half is latent.
        shape: Shape of one datum, (C, H, W).

    Raises:
        ValueError: A stage returns an odd number of channels.

    Reference: RealNVP, arXiv:1605.08803, section 3.6, eqs. (14)-(16).
    """

    def __init__(self, stages: Iterable[Transform], shape: tuple[int, ...]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.shape = tuple(shape)
        # Shape of a datum when it leaves each stage, before half of it is factored out.
        self.stage_shapes: list[tuple[int, ...]] = []
        for i, stage in enumerate(self.stages):
            assert isinstance(stage, Transform)
            shape = stage.output_shape(shape)
            self.stage_shapes.append(shape)
            if i < len(self.stages) - 1:
                if shape[0] % 2:
                    raise ValueError(
                        f"MultiScale: stage {i} returns {shape[0]} channels, which cannot be halved; squeeze first"
                    )
                shape = (shape[0] // 2, *shape[1:])

    @property
    def latent_sizes(self) -> list[int]:
        """Numbers factored out after each stage, in the order in which they lie in z."""
        sizes = [int(torch.Size(shape).numel()) // 2 for shape in self.stage_shapes[:-1]]
        return [*sizes, int(torch.Size(self.stage_shapes[-1]).numel())]

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (sum(self.latent_sizes),)

    def forward(self, x: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        """z, flat, (B, D), and log|det dz/dx|, (B,)."""
        latents, total = [], zero_log_det(x)
        for stage in self.stages[:-1]:
            x, log_det_jacobian = stage(x, **context)
            total = total + log_det_jacobian
            x, factored_out = x.chunk(2, dim=1)
            latents.append(factored_out.flatten(1))
        x, log_det_jacobian = self.stages[-1](x, **context)
        return torch.cat([*latents, x.flatten(1)], dim=1), total + log_det_jacobian

    def inverse(self, z: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        """x, (B, *shape), and log|det dx/dz|, (B,), of flat z, (B, D)."""
        *latents, last = z.split(self.latent_sizes, dim=1)
        total = zero_log_det(z)
        x = last.unflatten(1, self.stage_shapes[-1])
        for i in reversed(range(len(self.stages))):
            if i < len(self.stages) - 1:
                channels, *size = self.stage_shapes[i]
                x = torch.cat([x, latents[i].unflatten(1, (channels // 2, *size))], dim=1)
            stage = self.stages[i]
            assert isinstance(stage, Transform)
            x, log_det_jacobian = stage.inverse(x, **context)
            total = total + log_det_jacobian
        return x, total

    def initialize(self, x: Tensor, **context: Any) -> Tensor:
        latents = []
        for i, stage in enumerate(self.stages):
            assert isinstance(stage, Transform)
            x = stage.initialize(x, **context)
            if i < len(self.stages) - 1:
                x, factored_out = x.chunk(2, dim=1)
                latents.append(factored_out.flatten(1))
        return torch.cat([*latents, x.flatten(1)], dim=1)
