"""ActNorm: a learned scale and shift of each channel, initialized from one batch."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from codelength.transforms.transform import Transform


class ActNorm(Transform):
    """z = (x + bias) ⊙ exp(log_scale), one pair a channel; log|det| = sites · Σ log_scale.

    `initialize(x)` sets the pair once so that the batch x has mean 0 and variance 1 in each channel. Whether it was
    done is a buffer saved with the weights, so that neither loading nor resuming does it again, and `forward` never
    does it: a likelihood that depends on the first batch evaluated is the bug of several libraries. Without
    `initialize` the layer is the identity at first and trains from there; its density is as normalized as any.

    Args:
        channels: C.

    Raises:
        ValueError: `initialize` gets a batch that is not finite.

    Reference: Glow, arXiv:1807.03039, section 3.1.
    """

    initialized: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.register_buffer("initialized", torch.tensor(False))

    def _per_site(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """bias and log_scale shaped to broadcast with x, (B, C, ...), and log|det dz/dx|, (B,)."""
        shape = (1, -1, *[1] * (x.dim() - 2))
        log_det_jacobian = (math.prod(x.shape[2:]) * self.log_scale.sum()).expand(x.shape[0])
        return self.bias.reshape(shape), self.log_scale.reshape(shape), log_det_jacobian

    def forward(self, x: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        bias, log_scale, log_det_jacobian = self._per_site(x)
        return (x + bias) * log_scale.exp(), log_det_jacobian

    def inverse(self, z: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        bias, log_scale, log_det_jacobian = self._per_site(z)
        return z * torch.exp(-log_scale) - bias, -log_det_jacobian

    @torch.no_grad()
    def initialize(self, x: Tensor, **context: Any) -> Tensor:
        if not bool(self.initialized):
            if not bool(x.isfinite().all()):
                raise ValueError("ActNorm.initialize: the batch holds NaN or infinity; an earlier layer diverges")
            deviation, mean = torch.std_mean(x.transpose(0, 1).flatten(1), dim=1, correction=0)
            # A channel that is constant in this batch keeps a scale that later data can live with.
            self.log_scale.copy_(-torch.log(deviation.clamp(min=1e-3)))
            self.bias.copy_(-mean)
            self.initialized.fill_(True)
        z: Tensor = self(x, **context)[0]
        return z
