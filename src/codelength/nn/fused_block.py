"""The element-wise parts of gated residual blocks, each in one pass over memory forward and one backward.

    elu_dropout     dropout(concat_elu(c + Σ a_i))           between the two convolutions
    gated_feature   value x + a σ(b), and its concat_elu     after them
    activate        value c, or c + a, and its concat_elu    after a convolution outside of the blocks

Tensors on a CPU in float32 or bfloat16 go through compiled kernels (`codelength.native`), which also read and write
convolutions' outputs with the rows and columns that a shifted convolution cuts off: the gradient of a cut is otherwise a pass
of its own. All else goes through `codelength.nn.activations`. Random numbers, and so what is dropped, are the same.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from codelength import native
from codelength.nn.activations import Feature, byte_dropout, concat_elu, gated_add, random_bytes
from codelength.nn.activations import activate as plain_activate
from codelength.randomness import own_part, whole_batch

Sites = tuple[int, int]


def elu_dropout(c: Tensor, addends: Sequence[Tensor], sites: Sites, probability: float, training: bool) -> Tensor:
    """Dropout of concat_elu(c + Σ a_i) at the first rows and columns of c.

    Args:
        c: (B, F, H or more, W or more).
        addends: The a_i, (B, F, H, W) each.
        sites: H and W.
        probability, training: As for `byte_dropout`.

    Returns:
        (B, 2F, H, W).
    """
    dropped = round(probability * 256) if training else 0
    if len(addends) <= 2 and _fits(c) and all(a.dtype == c.dtype and _fits(a) for a in addends):
        bytes_ = None
        if dropped:
            shape = whole_batch((c.shape[0], 2 * c.shape[1] * sites[0] * sites[1]))
            bytes_ = own_part(random_bytes(math.prod(shape), c.device).view(shape)).flatten().contiguous()
        out: Tensor = _EluDropout.apply(c, sites, bytes_, dropped, *addends)
        return out
    x = c[:, :, : sites[0], : sites[1]]
    if addends:
        x = x + functools.reduce(torch.add, addends)
    return byte_dropout(concat_elu(x), probability, training)


def activate(c: Tensor, a: Tensor | None = None, *, sites: Sites | None = None) -> Feature:
    """The feature of c + a at the first rows and columns of both.

    Args:
        c: (B, F, H or more, W or more).
        a: Of the same kind, not necessarily of the same rows and columns, or None.
        sites: H and W, by default those of c.
    """
    sites = (c.shape[2], c.shape[3]) if sites is None else sites
    if _fits(c) and (a is None or (a.dtype == c.dtype and _fits(a) and _last(a) == _last(c))):
        return Feature(*_Activate.apply(c, a, sites))
    x = c[:, :, : sites[0], : sites[1]]
    return plain_activate(x if a is None else x + a[:, :, : sites[0], : sites[1]])


def gated_feature(x: Tensor, gated: Tensor, sites: Sites) -> Feature:
    """The feature of x + a σ(b), with a and b the halves of `gated`.

    Args:
        x: (B, F, H, W).
        gated: (B, 2F, H or more, W or more), of which the first rows and columns count.
        sites: H and W.
    """
    if x.dtype == gated.dtype and _fits(x) and _fits(gated) and _last(x) == _last(gated):
        return Feature(*_GatedFeature.apply(x, gated, sites))
    return plain_activate(gated_add(x, gated[:, :, : sites[0], : sites[1]]))


def _fits(x: Tensor) -> bool:
    """Whether a kernel takes it."""
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.bfloat16) or x.dim() != 4 or x.numel() == 0:
        return False
    return x.stride(1 if _last(x) else 3) == 1 and native.library() is not None


def _last(x: Tensor) -> bool:
    """Whether channels are innermost."""
    return x.stride(1) == 1 and x.shape[1] > 1


def _empty(like: Tensor, channels: int, sites: Sites) -> Tensor:
    layout = torch.channels_last if _last(like) else torch.contiguous_format
    return torch.empty((len(like), channels, *sites), dtype=like.dtype, memory_format=layout)


def _laid_out(x: Tensor, last: bool) -> Tensor:
    """x, copied where it is not dense with channels innermost or outermost as `last` says."""
    return x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def _uncut(like: Tensor, channels: int, uncut: Sites, sites: Sites) -> Tensor:
    """Room for a gradient at `uncut` rows and columns, zero outside of the sites."""
    gradient = _empty(like, channels, uncut)
    gradient[:, :, sites[0] :].zero_()
    gradient[:, :, : sites[0], sites[1] :].zero_()
    return gradient


class _Grid(ctypes.Structure):
    """`grid` of kernels.c."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("s0", ctypes.c_int64),
        ("s1", ctypes.c_int64),
        ("s2", ctypes.c_int64),
        ("half", ctypes.c_int64),
    ]


GRIDS = ("x", "y", "z", "out", "value", "grad_out", "grad_value", "grad_x", "grad_y")


class _Call(ctypes.Structure):
    """`activation_call` of kernels.c."""

    _fields_ = [
        ("n0", ctypes.c_int64),
        ("n1", ctypes.c_int64),
        ("n2", ctypes.c_int64),
        ("length", ctypes.c_int64),
        ("dtype", ctypes.c_int32),
        ("threshold", ctypes.c_int32),
        ("keep", ctypes.c_float),
        ("bytes", ctypes.c_void_p),
        *[(name, _Grid) for name in GRIDS],
    ]


def _grid(x: Tensor | None, filters: int, last: bool) -> _Grid:
    if x is None:
        return _Grid()
    first, second, third = (0, 2, 3) if last else (0, 1, 2)
    return _Grid(x.data_ptr(), x.stride(first), x.stride(second), x.stride(third), filters * x.stride(1))


def _run(
    name: str, shape: tuple[int, int, int, int], last: bool, random: Tensor | None, dropped: int, **tensors: Any
) -> None:
    """Call a kernel on tensors by name; `shape` is (B, F, H, W), the numbers of one half."""
    batch, filters, height, width = shape
    sizes = (batch, height, width, filters) if last else (batch, filters, height, width)
    dtype = next(x.dtype for x in tensors.values() if x is not None)
    call = _Call(
        *sizes,
        int(dtype == torch.bfloat16),
        dropped,
        256 / (256 - dropped),
        None if random is None else random.data_ptr(),
        *[_grid(tensors.get(key), filters, last) for key in GRIDS],
    )
    library = native.library()
    assert library is not None
    function = getattr(library, f"codelength_{name}")

    def work(first: int, end: int) -> int:
        code: int = function(ctypes.byref(call), ctypes.c_int64(first), ctypes.c_int64(end))
        return code

    native.parallel(work, sizes[0] * sizes[1], batch * filters * height * width)


class _EluDropout(torch.autograd.Function):
    """The sum is kept, and a random byte for each output."""

    @staticmethod
    def forward(ctx: Any, c: Tensor, sites: Sites, random: Tensor | None, dropped: int, *addends: Tensor) -> Tensor:
        last, filters = _last(c), c.shape[1]
        shape = (len(c), filters, *sites)
        out = _empty(c, 2 * filters, sites)
        y, z = (*(_laid_out(a, last) for a in addends), None, None)[:2]
        # Without an addend the sum is c itself, which nobody changes.
        value = _empty(c, filters, sites) if addends else None
        _run("concat_elu", shape, last, random, dropped, x=c, y=y, z=z, out=out, value=value)
        ctx.save_for_backward(c if value is None else value, random)
        ctx.shape, ctx.last, ctx.dropped, ctx.addends = shape, last, dropped, len(addends)
        ctx.uncut = (c.shape[2], c.shape[3])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        value, random = ctx.saved_tensors
        _, filters, *sites = ctx.shape
        grad_c = _uncut(value, filters, ctx.uncut, (sites[0], sites[1]))
        # One gradient serves all addends; where nothing was cut it is that of c too.
        cut = ctx.uncut != (sites[0], sites[1])
        grad_a = _empty(value, filters, (sites[0], sites[1])) if ctx.addends and cut else None
        grad = _laid_out(grad.to(value.dtype), ctx.last)
        tensors = {"value": value, "grad_out": grad, "grad_x": grad_c, "grad_y": grad_a}
        _run("concat_elu_backward", ctx.shape, ctx.last, random, ctx.dropped, **tensors)
        return grad_c, None, None, None, *[grad_a if cut else grad_c] * ctx.addends


class _Activate(torch.autograd.Function):
    """The sum is kept."""

    @staticmethod
    def forward(ctx: Any, c: Tensor, a: Tensor | None, sites: Sites) -> tuple[Tensor, Tensor]:
        last, filters = _last(c), c.shape[1]
        shape = (len(c), filters, *sites)
        value, out = _empty(c, filters, sites), _empty(c, 2 * filters, sites)
        _run("concat_elu", shape, last, None, 0, x=c, y=a, value=value, out=out)
        ctx.save_for_backward(value)
        ctx.shape, ctx.last = shape, last
        ctx.uncut = [None if x is None else (x.shape[2], x.shape[3]) for x in (c, a)]
        ctx.set_materialize_grads(False)
        return value, out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_value: Tensor | None, grad_out: Tensor | None) -> tuple[Tensor | None, ...]:
        (value,) = ctx.saved_tensors
        _, filters, *sites = ctx.shape
        grad_c, grad_a = (
            None if uncut is None else _uncut(value, filters, uncut, (sites[0], sites[1])) for uncut in ctx.uncut
        )
        grad_value, grad_out = (
            None if g is None else _laid_out(g.to(value.dtype), ctx.last) for g in (grad_value, grad_out)
        )
        tensors = {"value": value, "grad_value": grad_value, "grad_out": grad_out, "grad_x": grad_c, "grad_y": grad_a}
        _run("concat_elu_backward", ctx.shape, ctx.last, None, 0, **tensors)
        return grad_c, grad_a, None


class _GatedFeature(torch.autograd.Function):
    """Both halves of the gate and the value are kept; the sigmoid is computed again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gated: Tensor, sites: Sites) -> tuple[Tensor, Tensor]:
        last, filters = _last(gated), gated.shape[1] // 2
        shape = (len(gated), filters, *sites)
        value, out = _empty(gated, filters, sites), _empty(gated, 2 * filters, sites)
        _run("gated_feature", shape, last, None, 0, x=x, y=gated, value=value, out=out)
        ctx.save_for_backward(gated, value)
        ctx.shape, ctx.last = shape, last
        ctx.set_materialize_grads(False)
        return value, out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_value: Tensor | None, grad_out: Tensor | None) -> tuple[Tensor | None, ...]:
        gated, value = ctx.saved_tensors
        _, filters, *sites = ctx.shape
        grad_x = _empty(gated, filters, (sites[0], sites[1]))
        grad_gated = _uncut(gated, 2 * filters, (gated.shape[2], gated.shape[3]), (sites[0], sites[1]))
        grad_value, grad_out = (
            None if g is None else _laid_out(g.to(gated.dtype), ctx.last) for g in (grad_value, grad_out)
        )
        tensors = {"y": gated, "value": value, "grad_value": grad_value, "grad_out": grad_out}
        _run("gated_feature_backward", ctx.shape, ctx.last, None, 0, **tensors, grad_x=grad_x, grad_y=grad_gated)
        return grad_x, grad_gated, None
