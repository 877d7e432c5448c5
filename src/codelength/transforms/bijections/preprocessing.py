"""Preprocessing as bijections: from the levels to the unit interval, from there to the reals.

The layer that rescales the data owns the constant: with both Jacobians counted, a density over the latents becomes one
over [offset, offset + levels)^D, where a bin has width 1.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from codelength.transforms.transform import Transform


class Rescale(Transform):
    """z = (x − offset) / levels: from the levels' bins to [0, 1). log|det| = −D log(levels).

    Args:
        levels: Number of levels.
        offset: Smallest level.
    """

    def __init__(self, levels: int, offset: int = 0) -> None:
        super().__init__()
        self.levels, self.offset = levels, offset

    def _log_det_jacobian(self, x: Tensor) -> Tensor:
        num_dims = math.prod(x.shape[1:])
        return torch.full((x.shape[0],), -num_dims * math.log(self.levels), dtype=x.dtype, device=x.device)

    def forward(self, x: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        return (x - self.offset) / self.levels, self._log_det_jacobian(x)

    def inverse(self, z: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        return z * self.levels + self.offset, -self._log_det_jacobian(z)


class Logit(Transform):
    """z = log p − log(1 − p) with p = α + (1 − 2α) x: from (−m, 1 + m) to the reals, m = α / (1 − 2α).

    log|det dz/dx| = Σ log(1 − 2α) − log p − log(1 − p). The inverse reaches the margin m beyond [0, 1], a density
    pushed through it may put mass there: it is normalized over the wider interval, and what lies outside [0, 1] is
    lost to the data. The paper has α + (1 − α) x, which sends x = 1 to infinity.

    Args:
        alpha: α in (0, 1/2).

    Raises:
        ValueError: α is out of range.

    Reference: RealNVP, arXiv:1605.08803, section 4.1 (α = 0.05).
    """

    def __init__(self, alpha: float = 0.05) -> None:
        super().__init__()
        if not 0 < alpha < 0.5:
            raise ValueError(f"Logit: alpha={alpha}; wanted a number in (0, 0.5), such as 0.05")
        self.alpha = alpha

    @property
    def margin(self) -> float:
        """m: how far beyond [0, 1] the support reaches on either side."""
        return self.alpha / (1 - 2 * self.alpha)

    def _log_det_jacobian(self, log_p: Tensor, log_not_p: Tensor) -> Tensor:
        return (math.log(1 - 2 * self.alpha) - log_p - log_not_p).flatten(1).sum(1)

    def forward(self, x: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        p = self.alpha + (1 - 2 * self.alpha) * x
        log_p, log_not_p = torch.log(p), torch.log1p(-p)
        return log_p - log_not_p, self._log_det_jacobian(log_p, log_not_p)

    def inverse(self, z: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        log_p, log_not_p = torch.nn.functional.logsigmoid(z), torch.nn.functional.logsigmoid(-z)
        return (torch.sigmoid(z) - self.alpha) / (1 - 2 * self.alpha), -self._log_det_jacobian(log_p, log_not_p)
