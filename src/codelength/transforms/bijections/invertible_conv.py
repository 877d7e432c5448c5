"""Invertible 1x1 convolution: a learned mixing of the channels, the same at every site."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from codelength.transforms.transform import Transform


class InvertibleConv(Transform):
    """z = W x over channels with W = P L (U + diag(sign · exp(log_scale))); log|det| = sites · Σ log_scale.

    P, a permutation, and the signs stay as they were drawn, and are saved; L is unit lower triangular, U strictly
    upper. The inverse solves two triangular systems. Always in the precision of the data, under autocast too.

    Args:
        channels: C. W starts as a random rotation, or near the identity.
        noise: None for a random rotation; else W = I + noise · N(0, 1), as in the released code of Flow++.

    Reference: Glow, arXiv:1807.03039, section 3.2, eqs. (10)-(11).
    """

    permutation: Tensor
    sign: Tensor

    def __init__(self, channels: int, *, noise: float | None = None) -> None:
        super().__init__()
        random = torch.randn(channels, channels, dtype=torch.float64, device="cpu")
        eye = torch.eye(channels, dtype=torch.float64, device="cpu")
        weight = torch.linalg.qr(random)[0] if noise is None else eye + noise * random
        permutation, lower, upper = torch.linalg.lu(weight)
        scale = upper.diagonal()
        default = torch.get_default_dtype()
        self.lower = nn.Parameter(lower.tril(-1).to(default))
        self.upper = nn.Parameter(upper.triu(1).to(default))
        self.log_scale = nn.Parameter(scale.abs().log().to(default))
        # Row i of W x is row permutation[i] of L U x.
        self.register_buffer("permutation", permutation.argmax(1))
        self.register_buffer("sign", scale.sign().to(default))

    def _triangular(self) -> tuple[Tensor, Tensor]:
        eye = torch.eye(len(self.sign), dtype=self.lower.dtype, device=self.lower.device)
        return self.lower.tril(-1) + eye, self.upper.triu(1) + torch.diag(self.sign * self.log_scale.exp())

    def weight(self) -> Tensor:
        """W, (C, C)."""
        lower, upper = self._triangular()
        return (lower @ upper)[self.permutation]

    def _log_det_jacobian(self, x: Tensor) -> Tensor:
        return (math.prod(x.shape[2:]) * self.log_scale.sum()).expand(x.shape[0])

    def forward(self, x: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            z = self.weight() @ x.reshape(*x.shape[:2], -1)  # (B, C, sites)
        return z.reshape(x.shape), self._log_det_jacobian(x)

    def inverse(self, z: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        lower, upper = self._triangular()
        rows = z.reshape(*z.shape[:2], -1)[:, self.permutation.argsort()]
        rows = torch.linalg.solve_triangular(lower, rows, upper=False, unitriangular=True)
        x = torch.linalg.solve_triangular(upper, rows, upper=True)
        return x.reshape(z.shape), -self._log_det_jacobian(z)
