"""ActNorm, 1x1 convolution and affine coupling as one step, with few passes over memory; the same function.

    y = W e^a (x + b) = W' x + b',   W' = W diag(e^a), b' = W' b        one matrix product
    z = (y_1, (y_2 + t) s),   s = σ(raw + 2) + floor                    one compiled pass each way (`codelength.native`)

Images stay channels-last between the two, so that the coupling's network finds the layout it wants. `Compose` asks `fused_step`
before each transform; it answers where kernels are: float32 on a CPU. All else takes the transforms one by one.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from codelength import native
from codelength.nn.weight_norm import product_dtype
from codelength.transforms.bijections.actnorm import ActNorm
from codelength.transforms.bijections.elementwise import Affine
from codelength.transforms.bijections.invertible_conv import InvertibleConv
from codelength.transforms.bijections.split_coupling import SplitCoupling
from codelength.transforms.transform import Transform

Step = tuple[Tensor, Tensor, int]
"""z, log|det|, (B,), and the number of transforms done."""


def fused_step(transforms: nn.ModuleList, index: int, x: Tensor, **context: Any) -> Step | None:
    """The step that begins with transform `index`, or None where it is not of this kind or has no kernels."""
    first = transforms[index]
    following = [*transforms[index + 1 : index + 3], None, None]
    second, third = following[0], following[1]
    if not (isinstance(first, ActNorm) and isinstance(second, InvertibleConv) and _fits(x)):
        return None
    batch, channels, height, width = x.shape
    sites = height * width
    log_det = (sites * (first.log_scale.sum() + second.log_scale.sum())).expand(batch)
    rows = x.permute(0, 2, 3, 1).reshape(-1, channels)
    parameters = first.bias, first.log_scale, second.lower, second.upper, second.log_scale
    with torch.autocast("cpu", enabled=False):
        weight, bias = _Folded.apply(*parameters, second.sign, second.permutation)
        y = torch.addmm(bias, rows, weight.t())
    image = y.view(batch, height, width, channels).permute(0, 3, 1, 2)
    if not _is_glow_coupling(third):
        return image, log_det, 2
    kept = channels - channels // 2
    condition = image[:, :kept].to(product_dtype(), memory_format=torch.channels_last)
    theta = third.network(condition.contiguous(memory_format=torch.channels_last), **context)
    theta = theta.contiguous(memory_format=torch.channels_last)
    z, log_scales = _Coupling.apply(y, theta, (batch, sites, kept, channels - kept), third.kind.floor)
    return z.view(batch, height, width, channels).permute(0, 3, 1, 2), log_det + log_scales, 3


def _is_glow_coupling(transform: Transform | None) -> bool:
    if not isinstance(transform, SplitCoupling) or transform.swap:
        return False
    return isinstance(transform.kind, Affine) and transform.kind.scale == "sigmoid"


def _fits(x: Tensor) -> bool:
    plain = type(x) is Tensor and x.device.type == "cpu" and x.dtype == torch.float32 and x.dim() == 4
    return plain and x.numel() > 0 and x.shape[1] > 1 and native.library() is not None


class _Folded(torch.autograd.Function):
    """W' and b' of the five parameters, with the derivatives written out: some forty operations on small matrices less."""

    @staticmethod
    def forward(
        ctx: Any, b: Tensor, a: Tensor, lower: Tensor, upper: Tensor, s: Tensor, sign: Tensor, permutation: Tensor
    ) -> tuple[Tensor, Tensor]:
        diagonal = sign * s.exp()
        unit_lower = lower.tril(-1).fill_diagonal_(1)
        full_upper = upper.triu(1) + torch.diag(diagonal)
        scale = a.exp()
        weight = (unit_lower @ full_upper)[permutation] * scale
        ctx.save_for_backward(b, unit_lower, full_upper, scale, weight, diagonal, permutation)
        return weight, weight @ b

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_weight: Tensor, by_bias: Tensor) -> tuple[Tensor | None, ...]:
        b, unit_lower, full_upper, scale, weight, diagonal, permutation = ctx.saved_tensors
        by_weight = torch.addr(by_weight, by_bias, b)  # b' = W' b
        by_b = by_bias @ weight
        by_a = (by_weight * weight).sum(0)
        by_product = torch.empty_like(weight)
        by_product[permutation] = by_weight * scale
        by_upper = unit_lower.t() @ by_product
        by_lower = (by_product @ full_upper.t()).tril_(-1)
        by_s = by_upper.diagonal() * diagonal
        return by_b, by_a, by_lower, by_upper.triu(1), by_s, None, None


class _Call(ctypes.Structure):
    """`coupling_call` of kernels.c."""

    _fields_ = [
        *[(name, ctypes.c_void_p) for name in ("x", "theta", "z", "log_det", "grad_z", "grad_log_det", "grad_x")],
        ("grad_theta", ctypes.c_void_p),
        *[(name, ctypes.c_int64) for name in ("sites", "kept", "changed")],
        ("dtype", ctypes.c_int32),
        ("floor", ctypes.c_float),
    ]


Sizes = tuple[int, int, int, int]
"""Batch, sites, channels that are kept, channels that are changed."""


def _run(sizes: Sizes, theta: Tensor, floor: float, *tensors: Tensor | None) -> None:
    """The kernel on x, theta, z, log_det, and the gradients of z, log_det, x and theta."""
    batch, *rest = sizes
    addresses = [None if x is None else x.data_ptr() for x in tensors]
    call = _Call(*addresses, *rest, int(theta.dtype == torch.bfloat16), floor)
    library = native.library()
    assert library is not None

    def work(first: int, last: int) -> int:
        code: int = library.codelength_affine_coupling(ctypes.byref(call), ctypes.c_int64(first), ctypes.c_int64(last))
        return code

    native.parallel(work, batch, math.prod(sizes[:2]) * (sizes[2] + sizes[3]))


class _Coupling(torch.autograd.Function):
    """y, (B sites, C), and theta, (B, 2 changed, H, W) channels-last, to z like y and the log-determinant, (B,)."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, theta: Tensor, sizes: Sizes, floor: float) -> tuple[Tensor, Tensor]:
        if theta.dtype not in (torch.float32, torch.bfloat16):
            theta = theta.float()
        z, log_det = torch.empty_like(y), y.new_empty(sizes[0])
        _run(sizes, theta, floor, y, theta, z, log_det, None, None, None, None)
        ctx.save_for_backward(y, theta)
        ctx.sizes, ctx.floor = sizes, floor
        return z, log_det

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_z: Tensor, by_log_det: Tensor) -> tuple[Tensor | None, ...]:
        y, theta = ctx.saved_tensors
        by_y, by_theta = torch.empty_like(y), torch.empty_like(theta)
        by_z, by_log_det = by_z.contiguous(), by_log_det.contiguous()
        _run(ctx.sizes, theta, ctx.floor, y, theta, None, None, by_z, by_log_det, by_y, by_theta)
        return by_y, by_theta, None, None
