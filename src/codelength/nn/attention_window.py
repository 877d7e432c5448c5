"""DRAW's attention: a grid of N x N Gaussian filters that a network lays over an image, to read it or to write into it.

The grid has a centre (g_X, g_Y), a stride δ, a variance σ² and a strength γ; the filters of its rows and columns are

    F_X[i, a] = exp(−(a − μ_X^i)² / 2σ²) / Z_X,     μ_X^i = g_X + (i − N/2 − 0.5) δ,     i = 1 .. N, a = 1 .. A

read gives γ F_Y x F_Xᵀ, (N, N), and write gives F_Yᵀ w F_X / γ, (B, A).

Reference: arXiv:1502.04623, eqs. (19)-(29), with their numbering of pixels from 1; `log` quantities keep σ², δ and γ positive.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PARAMETERS = 5  # g_X, g_Y, log σ², log δ, log γ
_TINY = 1e-8
LIMIT = 8.0


@dataclass(frozen=True)
class AttentionWindow:
    """Filters of a grid.

    Args:
        rows: F_Y, (n, N, H).
        columns: F_X, (n, N, W).
        strength: γ, (n, 1, 1).
    """

    rows: Tensor
    columns: Tensor
    strength: Tensor

    def read(self, x: Tensor) -> Tensor:
        """γ F_Y x F_Xᵀ of each channel: (n, C, H, W) to (n, C, N, N)."""
        rows, columns = self.rows.unsqueeze(1), self.columns.unsqueeze(1)
        return self.strength.unsqueeze(1) * (rows @ x @ columns.mT)

    def write(self, patch: Tensor) -> Tensor:
        """F_Yᵀ w F_X / γ of each channel: (n, C, N, N) to (n, C, H, W)."""
        rows, columns = self.rows.unsqueeze(1), self.columns.unsqueeze(1)
        return (rows.mT @ patch @ columns) / self.strength.unsqueeze(1)


def attention_window(parameters: Tensor, size: int, height: int, width: int) -> AttentionWindow:
    """The window that five outputs of a network stand for.

    Args:
        parameters: g̃_X, g̃_Y, log σ², log δ̃, log γ, (n, 5); 0, 0, 0, 0, 0 spans the image. The logs are bounded to ±8, smoothly.
        size: N, filters a side; 2 or more.
        height, width: B and A of the paper.
    """
    if parameters.shape[1] != PARAMETERS or size < 2:
        raise ValueError(
            f"attention_window: parameters {tuple(parameters.shape)}, size {size}; wanted (n, 5) and 2 or more"
        )
    centre_x, centre_y = parameters[:, 0], parameters[:, 1]
    log_variance, log_stride, log_strength = (LIMIT * torch.tanh(parameters[:, 2:] / LIMIT)).unbind(1)
    g_x, g_y = (width + 1) / 2 * (centre_x + 1), (height + 1) / 2 * (centre_y + 1)  # eqs. (22), (23)
    stride = (max(height, width) - 1) / (size - 1) * log_stride.exp()  # eq. (24)
    return AttentionWindow(
        _filters(g_y, stride, log_variance, size, height),
        _filters(g_x, stride, log_variance, size, width),
        log_strength.exp().view(-1, 1, 1),
    )


def _filters(centre: Tensor, stride: Tensor, log_variance: Tensor, size: int, pixels: int) -> Tensor:
    """Eqs. (19), (25): N filters over `pixels` positions, (n, N, pixels); each row sums to 1."""
    index = torch.arange(1, size + 1, device=centre.device, dtype=centre.dtype)
    means = centre[:, None] + (index - size / 2 - 0.5) * stride[:, None]  # (n, N)
    position = torch.arange(1, pixels + 1, device=centre.device, dtype=centre.dtype)
    distance = (position - means[:, :, None]) ** 2 * (0.5 * torch.exp(-log_variance))[:, None, None]
    weights = torch.exp(-distance)  # a filter far outside the image is all zeros, as in the paper
    return weights / weights.sum(2, keepdim=True).clamp(min=_TINY)
