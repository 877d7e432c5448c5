"""Uniform dequantization: y = x + u with u uniform on [0, 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from codelength import randomness
from codelength.randomness import Noise
from codelength.transforms.dequantization.dequantizer import Dequantizer


class UniformDequantization(Dequantizer):
    """q(y | x) = 1 on [x, x + 1): log q is 0, and E log p(x + u) bounds the log mass of the bin from below.

    y lies on the grid of its floating-point type. In float32 a bin near 255 holds 2^16 points, one near 65,535
    holds 2^8, so that the mean over u is that of a fine midpoint rule; beyond 2^20 levels it no longer is.

    Args:
        levels: Number of levels of the data, 2 .. 2^20.

    Raises:
        ValueError: `levels` is out of range.

    Reference: Theis et al., arXiv:1511.01844, section 3.1.

    >>> y, log_q = UniformDequantization(256).sample(torch.tensor([[3, 255]]), 2, torch.Generator().manual_seed(0))
    >>> y.floor().long().tolist(), log_q.tolist()
    ([[[3, 255]], [[3, 255]]], [[0.0], [0.0]])
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        if not 2 <= levels <= 2**20:
            raise ValueError(
                f"UniformDequantization: levels={levels}; wanted 2..{2**20}: float32 cannot resolve the bins of more"
            )
        self.levels = levels

    def sample(
        self, x: Tensor, k: int, generator: Noise, *, dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor]:
        if x.is_floating_point():
            raise ValueError(f"UniformDequantization: data of dtype {x.dtype}; wanted integers")
        noise = randomness.uniform((k, *x.shape), generator, device=x.device, dtype=dtype)
        low = x.to(dtype)
        # x + u can round up to x + 1, the next level's bin: stop at the largest number below it.
        below = torch.nextafter(low + 1, torch.full_like(low, -torch.inf))
        return torch.minimum(low + noise, below), torch.zeros(k, x.shape[0], dtype=dtype, device=x.device)
