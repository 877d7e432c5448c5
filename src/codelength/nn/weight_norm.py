"""Weight normalization: w = g v / |v|, the norm over each output's inputs.

The formula is some twenty operations on small tensors, forward and backward: for convolutions of few channels their calls take
as long as the arithmetic of larger ones. On a CPU in float32 a compiled kernel makes it one call each way, and rounds to
bfloat16 where autocast would.

Reference: Salimans & Kingma, arXiv:1602.07868, eqs. (2)-(3).
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from codelength import native


def normalized_weight(direction: Tensor, gain: Tensor, output_dim: int) -> Tensor:
    """g v / |v|, of the shape of v.

    Args:
        direction: v.
        gain: g, one for each output.
        output_dim: Dim of v that counts outputs, 0 or 1.

    Returns:
        Of the type of v; from the kernel under bfloat16 autocast rounded to it.
    """
    if fits(direction) and fits(gain):
        weight: Tensor = _NormalizedWeight.apply(direction, gain, output_dim)
        return weight
    dims = [dim for dim in range(direction.dim()) if dim != output_dim]
    norm = torch.linalg.vector_norm(direction, dim=dims, keepdim=True)
    shape = [-1 if dim == output_dim else 1 for dim in range(direction.dim())]
    return direction * (gain.view(shape) / norm)


def fits(x: Tensor) -> bool:
    """Whether kernels take the parameter: float32 on a CPU, dense."""
    plain = type(x) in (Tensor, nn.Parameter) and x.device.type == "cpu" and x.dtype == torch.float32
    return plain and _dense(x) and x.numel() > 0 and native.library() is not None


def _dense(x: Tensor) -> bool:
    return x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last))


def product_dtype() -> torch.dtype:
    """What convolutions and matrix products take here: bfloat16 under its autocast, else float32."""
    autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return torch.bfloat16 if autocast else torch.float32


def like(grad: Tensor, parameter: Tensor, dtype: torch.dtype) -> Tensor:
    """A gradient with the parameter's strides, of a type."""
    if grad.dtype == dtype and grad.stride() == parameter.stride():
        return grad
    return torch.empty_like(parameter, dtype=dtype).copy_(grad)


class _Call(ctypes.Structure):
    """`weight_call` of kernels.c."""

    _fields_ = [
        *[
            (name, ctypes.c_void_p)
            for name in ("direction", "gain", "norm", "weight", "grad", "by_direction", "by_gain")
        ],
        *[(name, ctypes.c_int64) for name in ("outputs", "inputs", "run", "output_stride", "input_stride")],
        ("dtype", ctypes.c_int32),
    ]


def _run(direction: Tensor, output_dim: int, dtype: torch.dtype, *tensors: Tensor | None) -> None:
    """The kernel on gain, norm, weight, and the gradients of weight, direction and gain."""
    outputs = direction.shape[output_dim]
    if output_dim == 0:  # an output's numbers lie together, in whatever order
        inputs, run = 1, direction.numel() // outputs
        strides = (run, 0)
    elif direction.is_contiguous():
        inputs, run = direction.shape[0], math.prod(direction.shape[2:])
        strides = (run, outputs * run)
    else:  # channels-last: outputs are innermost
        inputs, run = direction.numel() // outputs, 1
        strides = (1, outputs)
    addresses = [None if x is None else x.data_ptr() for x in (direction, *tensors)]
    call = _Call(*addresses, outputs, inputs, run, *strides, int(dtype == torch.bfloat16))
    library = native.library()
    assert library is not None
    library.codelength_weight(ctypes.byref(call), ctypes.c_int64(0), ctypes.c_int64(outputs))


class _NormalizedWeight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, direction: Tensor, gain: Tensor, output_dim: int) -> Tensor:
        dtype = product_dtype()
        weight, norm = torch.empty_like(direction, dtype=dtype), torch.empty_like(gain)
        _run(direction, output_dim, dtype, gain, norm, weight, None, None, None)
        ctx.save_for_backward(direction, gain, norm)
        ctx.output_dim, ctx.dtype = output_dim, dtype
        return weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        direction, gain, norm = ctx.saved_tensors
        by_direction, by_gain = torch.empty_like(direction), torch.empty_like(gain)
        grad = like(grad, direction, ctx.dtype)
        _run(direction, ctx.output_dim, ctx.dtype, gain, norm, None, grad, by_direction, by_gain)
        return by_direction, by_gain, None
