"""Activations and dropout with few passes over memory: on a CPU they cost as much as the convolutions between them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from codelength.randomness import own_part, whole_batch


class _ConcatELU(torch.autograd.Function):
    """One exponential serves both halves, and the backward pass needs the output alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        # elu(x) = max(x, exp(−|x|) − 1), and elu(−x) = max(−x, exp(−|x|) − 1). In less than float32 the difference to 1
        # would lose the small values.
        wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
        tail = wide.abs().neg_().exp_().sub_(1).to(x.dtype)
        out = torch.cat([torch.maximum(x, tail), torch.maximum(x.neg(), tail)], dim=1)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        # elu'(x) = 1 + min(elu(x), 0).
        (out,) = ctx.saved_tensors
        slope = out.clamp(max=0).add_(1).mul_(grad)
        positive, negative = slope.chunk(2, dim=1)
        return positive - negative


def concat_elu(x: Tensor) -> Tensor:
    """elu of x and of −x side by side, (B, F, ...) to (B, 2F, ...): no unit is ever dead.

    Reference: PixelCNN++, arXiv:1701.05517, released code.

    >>> concat_elu(torch.tensor([[2.0, -2.0]])).round(decimals=3).tolist()
    [[2.0, -0.8650000095367432, -0.8650000095367432, 2.0]]
    """
    out: Tensor = _ConcatELU.apply(x)
    return out


class _GatedAdd(torch.autograd.Function):
    """The halves of the gate are views with gaps, on which element-wise functions are slow: one is copied first."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gated: Tensor) -> Tensor:
        a, b = gated.chunk(2, dim=1)
        # A convolution's cropped output is channels-last without being dense.
        layout = torch.channels_last if gated.stride(1) == 1 and gated.dim() == 4 else torch.contiguous_format
        gate = torch.sigmoid(b.contiguous(memory_format=layout))
        ctx.save_for_backward(a, gate)
        return torch.addcmul(x, a, gate)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        a, gate = ctx.saved_tensors
        through = grad * gate
        return grad, torch.cat([through, (1 - gate).mul_(through).mul_(a)], dim=1)


def gated_add(x: Tensor, gated: Tensor) -> Tensor:
    """x + a σ(b), with a and b the halves of `gated`: (B, F, H, W) and (B, 2F, H, W) to (B, F, H, W)."""
    out: Tensor = _GatedAdd.apply(x, gated)
    return out


class Feature(NamedTuple):
    """A value and its `concat_elu`, which up to three layers read: (B, F, H, W) and (B, 2F, H, W)."""

    value: Tensor
    active: Tensor


def activate(value: Tensor) -> Feature:
    """The feature of a value."""
    return Feature(value, concat_elu(value))


def random_bytes(count: int, device: torch.device) -> Tensor:
    """Uniform bytes from the global generator, (count,) uint8, drawn eight at a time."""
    words = torch.empty(-(-count // 8), dtype=torch.int64, device=device).random_(-(2**63), None)
    return words.view(torch.uint8)[:count]


def byte_dropout(x: Tensor, probability: float, training: bool) -> Tensor:
    """Dropout that spends one random byte a number: ten times faster than a Bernoulli draw each on a CPU.

    Args:
        x: (B, F, H, W), channels-last or contiguous (another layout is copied).
        probability: Probability of a zero, rounded to a multiple of 1/256. The rest is scaled up so that the mean stays.
        training: Whether to drop at all.

    Returns:
        Of the shape and layout of x.
    """
    dropped = round(probability * 256)
    if not training or dropped == 0:
        return x
    channels_last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    shape = whole_batch(x.permute(0, 2, 3, 1).shape if channels_last else x.shape)
    count = math.prod(shape)
    mask = torch.empty(count, dtype=x.dtype, device=x.device)
    # The comparison writes its 0 and 1 straight into floating point: no boolean mask in between.
    torch.ge(random_bytes(count, x.device), dropped, out=mask)
    mask = own_part(mask.mul_(256 / (256 - dropped)).view(shape))
    return x * (mask.permute(0, 3, 1, 2) if channels_last else mask)


def dropout(x: Tensor, probability: float, training: bool) -> Tensor:
    """Torch's dropout, whose masks for a part of a batch are those of the whole (`randomness.sharing`)."""
    if not training or probability == 0:
        return x
    shape = whole_batch(x.shape)
    if list(x.shape) == shape:
        return F.dropout(x, probability, True)
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    ones = x.new_ones(shape).contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    return x * own_part(F.dropout(ones, probability, True))
