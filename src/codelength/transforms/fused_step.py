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
from codelength.nn import coupling_network
from codelength.nn.coupling_network import CouplingNetwork
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
    rows = x.permute(0, 2, 3, 1).reshape(-1, channels)
    parameters = first.bias, first.log_scale, second.lower, second.upper, second.log_scale
    with torch.autocast("cpu", enabled=False):
        weight, bias, log_det = _Folded.apply(*parameters, second.sign, second.permutation, sites)
        y = torch.addmm(bias, rows, weight.t())
    log_det = log_det.expand(batch)
    image = y.view(batch, height, width, channels).permute(0, 3, 1, 2)
    if not _is_glow_coupling(third):
        return image, log_det, 2
    kept = channels - channels // 2
    sizes, floor, network = (batch, sites, kept, channels - kept), third.kind.floor, third.network
    if isinstance(network, CouplingNetwork) and network.is_plain():
        shape, dtype = (batch, kept, height, width), product_dtype()
        z, log_scales = _Whole.apply(y, sizes, floor, shape, dtype, network.rates, *network.flat())
        return z.view(batch, height, width, channels).permute(0, 3, 1, 2), log_det + log_scales, 3
    condition = image[:, :kept].to(product_dtype(), memory_format=torch.channels_last)
    theta = network(condition.contiguous(memory_format=torch.channels_last), **context)
    theta = theta.contiguous(memory_format=torch.channels_last)
    z, log_scales = _Coupling.apply(y, theta, sizes, floor)
    return z.view(batch, height, width, channels).permute(0, 3, 1, 2), log_det + log_scales, 3


def _is_glow_coupling(transform: Transform | None) -> bool:
    if not isinstance(transform, SplitCoupling) or transform.swap:
        return False
    return isinstance(transform.kind, Affine) and transform.kind.scale == "sigmoid"


def _fits(x: Tensor) -> bool:
    plain = type(x) is Tensor and x.device.type == "cpu" and x.dtype == torch.float32 and x.dim() == 4
    return plain and x.numel() > 0 and x.shape[1] > 1 and native.library() is not None


class _FoldCall(ctypes.Structure):
    """`fold_call` of kernels.c."""

    _fields_ = [
        *[(name, ctypes.c_void_p) for name in ("bias", "log_scale", "lower", "upper", "log_diagonal", "sign")],
        *[(name, ctypes.c_void_p) for name in ("permutation", "weight", "shift", "log_det")],
        *[(name, ctypes.c_void_p) for name in ("grad_weight", "grad_shift", "grad_log_det")],
        *[(name, ctypes.c_void_p) for name in ("by_bias", "by_log_scale", "by_lower", "by_upper", "by_log_diagonal")],
        ("n", ctypes.c_int64),
        ("sites", ctypes.c_float),
    ]


def _fold(n: int, sites: int, *tensors: Tensor | None) -> None:
    """The kernel on its tensors, in order."""
    call = _FoldCall(*[None if x is None else x.data_ptr() for x in tensors], n, sites)
    library = native.library()
    assert library is not None
    if library.codelength_fold(ctypes.byref(call), ctypes.c_int64(0), ctypes.c_int64(1)):
        raise MemoryError(f"a compiled kernel found no memory for two matrices of {n} by {n}")


class _Folded(torch.autograd.Function):
    """W', b' and the log-determinant of the five parameters: one call of a kernel instead of some forty operations."""

    @staticmethod
    def forward(
        ctx: Any, b: Tensor, a: Tensor, lower: Tensor, upper: Tensor, s: Tensor, sign: Tensor, order: Tensor, sites: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        given = [x.contiguous() for x in (b, a, lower, upper, s, sign, order)]
        results = torch.empty_like(given[2]), torch.empty_like(given[0]), b.new_empty(())
        _fold(len(b), sites, *given, *results, *[None] * 8)
        ctx.save_for_backward(*given, *results)
        ctx.sites = sites
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        b, a, lower, upper, s, *rest = ctx.saved_tensors
        by = [torch.empty_like(x) for x in (b, a, lower, upper, s)]
        given = [g.contiguous() for g in gradients]  # named: they must live until the kernel has read them
        _fold(len(b), ctx.sites, b, a, lower, upper, s, *rest, *given, *by)
        return *by, None, None, None


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


class _Whole(torch.autograd.Function):
    """The coupling with its network: y, (B sites, C), and the network's parameters in a row, to z like y and the log-determinant."""

    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        sizes: Sizes,
        floor: float,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        rates: tuple[float, ...],
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        batch, kept, height, width = shape
        condition = torch.empty(batch, height, width, kept, dtype=dtype)
        condition.view(-1, kept).copy_(y[:, :kept])
        with torch.autocast("cpu", enabled=False):
            theta, saved = coupling_network.forward(condition.permute(0, 3, 1, 2), parameters, rates)
        z, log_det = torch.empty_like(y), y.new_empty(batch)
        _run(sizes, theta, floor, y, theta, z, log_det, None, None, None, None)
        ctx.save_for_backward(y, theta, *saved, *parameters)
        ctx.sizes, ctx.floor, ctx.rates = sizes, floor, rates
        return z, log_det

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_z: Tensor, by_log_det: Tensor) -> tuple[Tensor | None, ...]:
        (y, theta, *rest), kept = ctx.saved_tensors, ctx.sizes[2]
        saved, parameters = rest[:-9], rest[-9:]
        by_y, by_theta = torch.empty_like(y), torch.empty_like(theta)
        by_z, by_log_det = by_z.contiguous(), by_log_det.contiguous()
        _run(ctx.sizes, theta, ctx.floor, y, theta, None, None, by_z, by_log_det, by_y, by_theta)
        by_condition, by_parameters = coupling_network.backward(by_theta, saved, parameters, ctx.rates)
        by_y[:, :kept].add_(by_condition.permute(0, 2, 3, 1).reshape(-1, kept))
        return by_y, None, None, None, None, None, *by_parameters
