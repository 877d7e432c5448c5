"""A convolution with a learned scale of each output, set from data: convolution and ActNorm in one pass.

actnorm(conv(x)) = (W x + b) e^s is the convolution with weights W e^s and bias b e^s: folded so, the normalization
costs no pass over the features, which on a CPU would take as long as a 1x1 convolution.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from codelength import native
from codelength.nn.weight_norm import fits, like, product_dtype


def scaled_weight(weight: Tensor, bias: Tensor, log_scale: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """weight and bias times exp(rate · log_scale) of each output.

    Args:
        weight: (outputs, channels, kernel, kernel).
        bias, log_scale: (outputs,).
        rate: How fast the scale acts.

    Returns:
        Of the type of `weight`; from the kernel under bfloat16 autocast rounded to it.
    """
    if fits(weight) and fits(bias) and fits(log_scale):
        out: tuple[Tensor, Tensor] = _ScaledWeight.apply(weight, bias, log_scale, rate)
        return out
    scale = torch.exp(rate * log_scale)
    return weight * scale[:, None, None, None], bias * scale


class _Call(ctypes.Structure):
    """`scale_call` of kernels.c."""

    _fields_ = [
        *[(name, ctypes.c_void_p) for name in ("weight", "bias", "log_scale", "scaled_weight", "scaled_bias")],
        *[(name, ctypes.c_void_p) for name in ("grad_weight", "grad_bias", "by_weight", "by_bias", "by_log_scale")],
        *[(name, ctypes.c_int64) for name in ("outputs", "run")],
        ("dtype", ctypes.c_int32),
        ("rate", ctypes.c_float),
    ]


def _call(weight: Tensor, dtype: torch.dtype, rate: float, *tensors: Tensor | None) -> _Call:
    """Of bias, log_scale, the scaled weight and bias, their gradients, and those of the three parameters."""
    outputs = len(weight)
    addresses = [None if x is None else x.data_ptr() for x in (weight, *tensors)]
    return _Call(*addresses, outputs, weight.numel() // outputs, int(dtype == torch.bfloat16), rate)


def _run(calls: Sequence[_Call]) -> None:
    library = native.library()
    assert library is not None
    array = (_Call * len(calls))(*calls)
    library.codelength_scaled_weights(ctypes.byref(array), ctypes.c_int64(0), ctypes.c_int64(len(calls)))


def _layers(parameters: Sequence[Tensor]) -> Iterator[Sequence[Tensor]]:
    """Three in turn."""
    return (parameters[at : at + 3] for at in range(0, len(parameters), 3))


def scaled_weights(
    parameters: Sequence[Tensor], rates: Sequence[float], dtype: torch.dtype
) -> list[tuple[Tensor, Tensor]]:
    """`scaled_weight` of several layers by one call of the kernel, without derivatives.

    Args:
        parameters: Weight, bias and log_scale of each layer, in a row.
        rates: One a layer.
        dtype: Of the results, float32 or bfloat16.

    Returns:
        Weight and bias of each, with the strides of the parameters.
    """
    results, calls = [], []
    for (weight, bias, log_scale), rate in zip(_layers(parameters), rates, strict=True):
        results.append((torch.empty_like(weight, dtype=dtype), torch.empty_like(bias, dtype=dtype)))
        calls.append(_call(weight, dtype, rate, bias, log_scale, *results[-1], *[None] * 5))
    _run(calls)
    return results


def scaled_weights_backward(
    gradients: Sequence[tuple[Tensor, Tensor]], parameters: Sequence[Tensor], rates: Sequence[float], dtype: torch.dtype
) -> list[Tensor]:
    """Gradients of the parameters in a row, from those of weight and bias of each layer."""
    results, calls, held = [], [], []
    for given, (weight, bias, log_scale), rate in zip(gradients, _layers(parameters), rates, strict=True):
        pair = like(given[0].view_as(weight), weight, dtype), given[1].to(dtype).contiguous()
        held.append(pair)  # until the kernel has read it
        results += [torch.empty_like(x) for x in (weight, bias, log_scale)]
        calls.append(_call(weight, dtype, rate, bias, log_scale, None, None, *pair, *results[-3:]))
    _run(calls)
    return results


class _ScaledWeight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, log_scale: Tensor, rate: float) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(weight, bias, log_scale)
        ctx.rate, ctx.dtype = rate, product_dtype()
        return scaled_weights([weight, bias, log_scale], [rate], ctx.dtype)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_scaled: Tensor, by_shifted: Tensor) -> tuple[Tensor | None, ...]:
        gradients = [(by_scaled, by_shifted)]
        return *scaled_weights_backward(gradients, ctx.saved_tensors, [ctx.rate], ctx.dtype), None


class ScaledConv(nn.Module):
    """(W * x + b) exp(rate · s), (B, channels, H, W) to (B, outputs, H, W), with "same" padding.

    `initialize(x)` sets b and s once, so that on that batch every output has mean 0 and standard deviation `gain`.

    Args:
        channels: Channels of the input.
        outputs: Channels of the output.
        kernel: Side of the kernel, odd.
        gain: Standard deviation of the outputs after `initialize`; 0 starts with W = b = s = 0 and stays so.
        rate: How fast s acts; 3 in the last layers of Glow, which start at zero.

    Reference: Glow, arXiv:1807.03039, section 3.1 and released code; Salimans & Kingma, arXiv:1602.07868, section 3.
    """

    initialized: Tensor

    def __init__(self, channels: int, outputs: int, kernel: int, *, gain: float = 1.0, rate: float = 1.0) -> None:
        super().__init__()
        self.kernel, self.gain, self.rate = kernel, gain, rate
        self.weight = nn.Parameter(torch.zeros(outputs, channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.log_scale = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("initialized", torch.tensor(gain == 0))
        if gain:
            nn.init.normal_(self.weight, std=gain / math.sqrt(channels * kernel**2))

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = scaled_weight(self.weight, self.bias, self.log_scale, self.rate)
        return F.conv2d(x, weight, bias, padding=self.kernel // 2)

    @torch.no_grad()
    def initialize(self, x: Tensor) -> Tensor:
        """Set b and s from a batch x, (B, channels, H, W), unless they are set; returns the output."""
        if not bool(self.initialized):
            raw = F.conv2d(x, self.weight, padding=self.kernel // 2)
            deviation, mean = torch.std_mean(raw, dim=(0, 2, 3), correction=0)
            self.bias.copy_(-mean)
            self.log_scale.copy_(torch.log(self.gain / deviation.clamp(min=1e-3)) / self.rate)
            self.initialized.fill_(True)
        out: Tensor = self(x)
        return out
