"""Coupling layers: part of the datum is changed by a function of the rest, so that the inverse is as cheap.

With a mask b of ones and zeros the masked part conditions and stays, the rest is transformed:

    z = b ⊙ x + (1 − b) ⊙ (x ⊙ exp(s(b ⊙ x)) + t(b ⊙ x)),        log|det dz/dx| = Σ (1 − b) ⊙ s(b ⊙ x).

Reference: RealNVP, arXiv:1605.08803, eqs. (4)-(9); the additive case is NICE, arXiv:1410.8516, eq. (8).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from codelength.transforms.transform import Transform, zero_log_det


def checkerboard_mask(shape: tuple[int, ...], parity: int) -> Tensor:
    """1 where row + column has the same parity as `parity`, else 0: (C, H, W), the same in every channel.

    >>> checkerboard_mask((1, 2, 3), 0).tolist()
    [[[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]]
    """
    channels, height, width = shape
    sites = (torch.arange(height)[:, None] + torch.arange(width)) % 2 == parity % 2
    return sites.float().expand(channels, height, width).contiguous()


def channel_mask(shape: tuple[int, ...], parity: int) -> Tensor:
    """1 in the first half of the channels (parity 0) or in the second (parity 1): (C, ...).

    Raises:
        ValueError: There is one channel only.
    """
    channels, *sites = shape
    if channels < 2:
        raise ValueError(f"channel_mask: {channels} channel cannot be split; squeeze first or use a checkerboard")
    half = (torch.arange(channels) < channels // 2) == (parity % 2 == 0)
    return half.float().reshape(-1, *[1] * len(sites)).expand(channels, *sites).contiguous()


class _Coupling(Transform):
    """The mask, and its complement, as buffers that are not saved: they follow from the architecture."""

    mask: Tensor
    free: Tensor

    def __init__(self, mask: Tensor, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mask", mask.clone().float(), persistent=False)
        self.register_buffer("free", 1 - mask.float(), persistent=False)


class AdditiveCoupling(_Coupling):
    """z = x + (1 − b) ⊙ t(b ⊙ x): volume-preserving.

    Args:
        mask: b, of the shape of one datum, (C, ...): 1 where x conditions, 0 where it is changed.
        network: Takes b ⊙ x, (B, C, ...), returns t, (B, C, ...); what it returns where b = 1 is ignored.
    """

    def forward(self, x: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        return x + self.free * self.network(self.mask * x, **context), zero_log_det(x)

    def inverse(self, z: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        return z - self.free * self.network(self.mask * z, **context), zero_log_det(z)


class AffineCoupling(_Coupling):
    """z = b ⊙ x + (1 − b) ⊙ (x ⊙ exp(s) + t), with s = a ⊙ tanh(raw) and a learned scale a for each channel.

    |s| <= |a|, so that exp(s) overflows only if a itself grows past 88 (float32). The paper has one scale a layer.

    Args:
        mask: b, of the shape of one datum, (C, ...): 1 where x conditions, 0 where it is changed.
        network: Takes b ⊙ x, (B, C, ...), returns raw and t stacked, (B, 2C, ...); ignored where b = 1.
        scale: Initial value of a.
    """

    def __init__(self, mask: Tensor, network: nn.Module, *, scale: float = 1.0) -> None:
        super().__init__(mask, network)
        self.scale = nn.Parameter(torch.full((mask.shape[0], *[1] * (mask.dim() - 1)), scale))

    def _scale_and_shift(self, conditioner: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        # A network may run in bfloat16 under autocast, a log-determinant never does.
        raw, shift = self.network(conditioner, **context).to(conditioner.dtype).chunk(2, dim=1)
        return self.free * self.scale * torch.tanh(raw), self.free * shift

    def forward(self, x: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        log_scale, shift = self._scale_and_shift(self.mask * x, **context)
        return x * torch.exp(log_scale) + shift, log_scale.flatten(1).sum(1)

    def inverse(self, z: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        log_scale, shift = self._scale_and_shift(self.mask * z, **context)
        return (z - shift) * torch.exp(-log_scale), -log_scale.flatten(1).sum(1)
