"""A scale and shift of each channel for every class: the class-conditional prior of Glow, as a transform."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from codelength.transforms.transform import Transform

LIMIT = 5.0
"""Largest |log σ|."""


class ClassAffine(Transform):
    """z = (x − μ_y) exp(−log σ_y) with a pair for each class y and channel: x ~ N(μ_y, σ_y²) where z is standard normal.

    log σ = 5 tanh(raw / 5), so that no scale overflows.

    Args:
        channels: C.
        classes: Number of classes.

    Reference: Glow, arXiv:1807.03039, released code (the class-conditional prior of the last scale).
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(classes, channels))
        self.raw = nn.Parameter(torch.zeros(classes, channels))

    def _of(self, label: Tensor, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """μ and log σ shaped to broadcast with (B, C, ...), and the sum of log σ over the datum, (B,)."""
        log_scale = LIMIT * torch.tanh(self.raw[label] / LIMIT)
        ones = (1,) * (like.dim() - 2)
        total = math.prod(like.shape[2:]) * log_scale.sum(1)
        return self.mean[label].reshape(*log_scale.shape, *ones), log_scale.reshape(*log_scale.shape, *ones), total

    def forward(self, x: Tensor, *, label: Tensor, **context: Any) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        mean, log_scale, total = self._of(label, x)
        return (x - mean) * torch.exp(-log_scale), -total

    def inverse(self, z: Tensor, *, label: Tensor, **context: Any) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        mean, log_scale, total = self._of(label, z)
        return z * torch.exp(log_scale) + mean, total
