"""Mixture of discretized logistics of a site's channels, from a network's outputs to the log mass of a datum.

    P(r, g, b) = Σ_k π_k  P_k(r)  P_k(g | r)  P_k(b | r, g),
    μ_k(g | r) = μ_k,g + α_k r,    μ_k(b | r, g) = μ_k,b + β_k r + γ_k g,

each P_k a discretized logistic with open edge bins, r, g, b on [−1, 1]. The component is shared by the channels of a site.

`logistic_mixture_log_mass` has a backward pass of its own: nothing but the outputs is kept for it, so that its memory does
not grow with the components. Data on a CPU in float32 or bfloat16 are scored by a compiled kernel, one pass over memory
forward and one backward (`codelength.native`); all else by the formulas of this file, a few data at a time.

Reference: PixelCNN++, arXiv:1701.05517, eqs. (1)-(3).
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from codelength import native
from codelength.functional.discretized_logistic import discretized_logistic_log_mass, log_scale_floor

CHUNK = 1 << 17
"""Outputs that the formulas in PyTorch take at a time: their temporaries then stay in the cache."""


@dataclass(frozen=True)
class MixtureLayout:
    """How outputs describe the mixture: K logits, then for each component C means, C log scales and its coefficients.

    Args:
        channels: Channels of a site, C.
        components: K.
        levels: Number of levels.
        coupled: Whether C (C − 1) / 2 coefficients follow; row c (c − 1) / 2 + j multiplies channel j in the mean of c.
    """

    channels: int
    components: int
    levels: int
    coupled: bool

    @property
    def num_coefficients(self) -> int:
        """Coefficients of a component."""
        return self.channels * (self.channels - 1) // 2 if self.coupled else 0

    @property
    def num_parameters(self) -> int:
        """Outputs a site."""
        return self.components * (1 + 2 * self.channels + self.num_coefficients)

    @property
    def floor(self) -> float:
        """Smallest log scale; outputs below it count as it."""
        return log_scale_floor(self.levels)


@dataclass(frozen=True)
class MixtureParameters:
    """The mixture at every site.

    Args:
        logits: Mixture logits, (B, K, *S).
        mean: Means on the scale where levels span [−1, 1], (B, K, C, *S).
        log_scale: Log scales on that scale, (B, K, C, *S).
        coefficients: (B, K, C (C − 1) / 2, *S), in (−1, 1), or None.
        levels: Number of levels.
    """

    logits: Tensor
    mean: Tensor
    log_scale: Tensor
    coefficients: Tensor | None
    levels: int

    def scale(self, value: Tensor) -> Tensor:
        """Levels on [−1, 1]."""
        return value.to(self.mean.dtype) * (2 / (self.levels - 1)) - 1

    def conditional_mean(self, c: int, scaled: Tensor) -> Tensor:
        """Mean of channel c given `scaled`, the channels before it on [−1, 1]: (B, K, *S)."""
        mean = self.mean[:, :, c]
        if self.coefficients is None:
            return mean
        start = c * (c - 1) // 2
        for j in range(c):
            mean = mean + self.coefficients[:, :, start + j] * scaled[:, j].unsqueeze(1)
        return mean

    def component_log_masses(self, value: Tensor) -> list[Tensor]:
        """Log mass of each channel of `value`, (B, c, *S), under each component given the channels before: (B, K, *S)."""
        scaled = self.scale(value)
        return [
            discretized_logistic_log_mass(
                value[:, c].unsqueeze(1), self.conditional_mean(c, scaled), self.log_scale[:, :, c], self.levels
            )
            for c in range(value.shape[1])
        ]

    def log_mass(self, value: Tensor) -> Tensor:
        """log P of a site's channels, (B, C, *S) to (B, *S)."""
        joint = torch.log_softmax(self.logits, dim=1)
        for log_mass in self.component_log_masses(value):
            joint = joint + log_mass
        return torch.logsumexp(joint, dim=1)


def unpack_mixture(outputs: Tensor, layout: MixtureLayout, span: Tensor | None = None) -> MixtureParameters:
    """What outputs, (B, P, *S), say; arguments as for `logistic_mixture_log_mass`."""
    k, channels = layout.components, layout.channels
    # float32 at least: levels of 2 / 255 are not resolved by bfloat16. For 65,536 levels it suffices: the masses are
    # computed in levels, and a mean is off by at most 1/250 of one.
    wide = outputs.dtype == torch.float64
    # Components and channels are slices of dim 1: element-wise work on them is twice as fast if they have no gaps.
    outputs = (outputs.double() if wide else outputs.float()).contiguous()
    rest = outputs[:, k:].unflatten(1, (k, 2 * channels + layout.num_coefficients))
    mean, log_scale = rest[:, :, :channels], rest[:, :, channels : 2 * channels]
    coefficients = torch.tanh(rest[:, :, 2 * channels :]) if layout.num_coefficients else None
    if span is not None:
        mean, log_scale = _within(span.to(mean), mean, log_scale, coefficients)
    return MixtureParameters(outputs[:, :k], mean, log_scale.clamp(min=layout.floor), coefficients, layout.levels)


def _within(span: Tensor, mean: Tensor, log_scale: Tensor, coefficients: Tensor | None) -> tuple[Tensor, Tensor]:
    """Means and log scales on [−1, 1] of outputs that take centre ± half width for it.

    Channels before enter a mean by their distance to the centre too: c + h (m + Σ a_j (y_j − c) / h) is
    c + h m − c Σ a_j, plus the Σ a_j y_j that the mixture adds.
    """
    centre, half_width = span
    mean = centre + half_width * mean
    if coefficients is not None:
        # Row c (c − 1) / 2 + j of the coefficients belongs to channel c.
        sums = [coefficients[:, :, c * (c - 1) // 2 : c * (c + 1) // 2].sum(2) for c in range(mean.shape[2])]
        mean = mean - centre * torch.stack(sums, dim=2)
    return mean, log_scale + half_width.log()


def logistic_mixture_log_mass(
    outputs: Tensor, value: Tensor, layout: MixtureLayout, span: Tensor | None = None
) -> Tensor:
    """log P of the channels of every site given a network's outputs; differentiable once, by the outputs.

    Args:
        outputs: (B, P, *S) with P as in `layout`. Log scales below the floor count as the floor; coefficients pass tanh.
        value: Integers 0 .. levels − 1, (B, C, *S). One datum, or the outputs for one, serve the whole batch.
        layout: What the outputs are.
        span: Centre and half width of the part of [−1, 1] that the outputs take for [−1, 1], (2,); None: all of it. It
            has no gradient.

    Returns:
        Nats, (B, *S), float64 for outputs in float64, else float32.

    Raises:
        ValueError: Shapes differ.
    """
    sites = outputs.shape[2:]
    if 1 in (len(outputs), len(value)):
        batch = max(len(outputs), len(value))
        outputs, value = outputs.expand(batch, *outputs.shape[1:]), value.expand(batch, *value.shape[1:])
    if outputs.shape[1] != layout.num_parameters or value.shape != (len(outputs), layout.channels, *sites):
        raise ValueError(
            f"logistic_mixture_log_mass: outputs {tuple(outputs.shape)} and value {tuple(value.shape)}; wanted "
            f"(B, {layout.num_parameters}, *S) and (B, {layout.channels}, *S)"
        )
    log_mass: Tensor = _LogMass.apply(_flat(outputs), value.flatten(2), layout, None if span is None else span.detach())
    return log_mass.unflatten(1, sites) if sites else log_mass[:, 0]


def _flat(outputs: Tensor) -> Tensor:
    """(B, P, *S) to (B, P, sites), without a copy where outputs are contiguous or channels-last."""
    if outputs.dim() == 4 and outputs.is_contiguous(memory_format=torch.channels_last):
        return outputs.permute(0, 2, 3, 1).flatten(1, 2).transpose(1, 2)
    return outputs.contiguous().flatten(2)


class _LogMass(torch.autograd.Function):
    """Outputs (B, P, sites) and value (B, C, sites) to (B, sites); the backward pass computes the masses again."""

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, value: Tensor, layout: MixtureLayout, span: Tensor | None) -> Tensor:
        ctx.layout, ctx.span = layout, span
        ctx.save_for_backward(outputs, value)
        if _compiled(outputs):
            return _run_kernel(outputs, value, layout, span, None)
        parts = [unpack_mixture(outputs[part], layout, span).log_mass(value[part]) for part in _chunks(outputs.shape)]
        return _join(parts, outputs.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        outputs, value = ctx.saved_tensors
        if _compiled(outputs):
            return _run_kernel(outputs, value, ctx.layout, ctx.span, grad), None, None, None
        grad_outputs = torch.empty_like(outputs)
        for part in _chunks(outputs.shape):
            chunk = outputs[part].detach().requires_grad_()
            with torch.enable_grad():
                log_mass = unpack_mixture(chunk, ctx.layout, ctx.span).log_mass(value[part])
            row, _, column = part
            (grad_outputs[part],) = torch.autograd.grad(log_mass, chunk, grad[row, column])
        return grad_outputs, None, None, None


Chunk = tuple[slice, slice, slice]


def _chunks(shape: torch.Size) -> Iterator[Chunk]:
    """Slices of (B, P, sites), rows of data first, of at most about CHUNK numbers."""
    batch, parameters, sites = shape
    at_once = max(1, CHUNK // max(parameters, 1))
    rows, columns = (1, at_once) if sites > at_once else (max(1, at_once // max(sites, 1)), max(sites, 1))
    for i in range(0, batch, rows):
        for j in range(0, max(sites, 1), columns):
            yield slice(i, i + rows), slice(None), slice(j, j + columns)


def _join(parts: list[Tensor], shape: torch.Size) -> Tensor:
    """The chunks' results as one (B, sites)."""
    batch, _, sites = shape
    if not parts:
        return torch.zeros(batch, sites)
    return torch.cat([part.flatten() for part in parts]).view(batch, sites)


class _Call(ctypes.Structure):
    """`mixture_call` of kernels.c."""

    _fields_ = [
        ("outputs", ctypes.c_void_p),
        ("batch_stride", ctypes.c_int64),
        ("parameter_stride", ctypes.c_int64),
        ("site_stride", ctypes.c_int64),
        ("value", ctypes.c_void_p),
        ("log_mass", ctypes.c_void_p),
        ("grad", ctypes.c_void_p),
        ("grad_outputs", ctypes.c_void_p),
        ("sites", ctypes.c_int64),
        ("dtype", ctypes.c_int32),
        ("components", ctypes.c_int32),
        ("channels", ctypes.c_int32),
        ("coupled", ctypes.c_int32),
        ("levels", ctypes.c_int32),
        ("floor", ctypes.c_float),
        ("centre", ctypes.c_float),
        ("half_width", ctypes.c_float),
        ("log_half_width", ctypes.c_float),
    ]


BLOCK = 64  # sites a block of kernels.c


def _compiled(outputs: Tensor) -> bool:
    """Whether the kernel takes these outputs."""
    fits = outputs.device.type == "cpu" and outputs.dtype in (torch.float32, torch.bfloat16) and outputs.numel() > 0
    return fits and native.library() is not None


def _run_kernel(
    outputs: Tensor, value: Tensor, layout: MixtureLayout, span: Tensor | None, grad: Tensor | None
) -> Tensor:
    """The log masses (B, sites), or with `grad`, (B, sites), the gradient of the outputs."""
    library = native.library()
    assert library is not None
    grad_outputs = None if grad is None else torch.empty_like(outputs)
    if grad_outputs is not None and grad_outputs.stride() != outputs.stride():
        outputs = outputs.contiguous()
        grad_outputs = torch.empty_like(outputs)
    batch, _, sites = outputs.shape
    value = value.long().contiguous()
    grad = None if grad is None else grad.float().contiguous()
    log_mass = torch.empty(batch, sites) if grad is None else None
    centre, half_width = (0.0, 1.0) if span is None else span.tolist()
    call = _Call(
        outputs.data_ptr(),
        *outputs.stride(),
        value.data_ptr(),
        None if log_mass is None else log_mass.data_ptr(),
        None if grad is None else grad.data_ptr(),
        None if grad_outputs is None else grad_outputs.data_ptr(),
        sites,
        int(outputs.dtype == torch.bfloat16),
        layout.components,
        layout.channels,
        int(layout.coupled),
        layout.levels,
        layout.floor,
        centre,
        half_width,
        math.log(half_width),
    )

    def work(first: int, last: int) -> int:
        code: int = library.codelength_logistic_mixture(ctypes.byref(call), ctypes.c_int64(first), ctypes.c_int64(last))
        return code

    native.parallel(work, batch * -(-sites // BLOCK), outputs.numel())
    result = log_mass if grad_outputs is None else grad_outputs
    assert result is not None
    return result
