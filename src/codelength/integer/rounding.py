"""From float layers to integers: activation ranges and weights, chosen to lose least on calibration data.

An input is x_c ≈ s_c (a_c − z_c) with an integer a_c of b bits, so W x + b ≈ step_o Σ_c w_oc a_c + offset_o, where w = round(W s / step_o) and
offset_o = b_o − step_o Σ_c w_oc z_c. Scales of inputs are per channel and cost nothing: they live in the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from codelength.integer.linear import WEIGHT_LIMIT, IntegerLinear

SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)


@dataclass(frozen=True)
class Activation:
    """How a real activation becomes an integer: a = clamp(round(x / scale) + zero, low, high).

    Args:
        scale: s, float64 (C,).
        zero: z, float64 integers (C,).
        bits: b: a lies in −2^(b−1) .. 2^(b−1) − 1.
    """

    scale: Tensor
    zero: Tensor
    bits: int

    @property
    def low(self) -> int:
        """Smallest integer."""
        return -(2 ** (self.bits - 1))

    @property
    def high(self) -> int:
        """Largest integer."""
        return 2 ** (self.bits - 1) - 1

    def simulate(self, x: Tensor) -> Tensor:
        """The real value that the integer stands for; gradients pass as if nothing was rounded, where nothing was clamped."""
        scale, zero = self.scale.to(x), self.zero.to(x)
        scaled = x / scale + zero
        rounded = scaled + (scaled.round() - scaled).detach()
        return (rounded.clamp(self.low, self.high) - zero) * scale


def fit_activation(samples: Tensor, bits: int) -> Activation:
    """The range of each channel that loses least squared error on samples, (rows, C) float64."""
    low, high = samples.amin(0), samples.amax(0)
    middle = samples.median(0).values  # one-sided channels stay whole on their short side
    best: Activation | None = None
    error = torch.full_like(low, float("inf"))
    for shrink in SHRINKS:
        bottom, top = middle + (low - middle) * shrink, middle + (high - middle) * shrink
        scale = (top - bottom).clamp(min=1e-6) / (2**bits - 1)
        zero = (-0.5 - (top + bottom) / (2 * scale)).round()
        candidate = Activation(scale, zero, bits)
        loss = (candidate.simulate(samples) - samples).square().mean(0)
        better = loss < error
        error = torch.where(better, loss, error)
        if best is not None:
            candidate = Activation(torch.where(better, scale, best.scale), torch.where(better, zero, best.zero), bits)
        best = candidate
    assert best is not None
    return best


def weight_steps(scaled: Tensor) -> Tensor:
    """Step of each output's weights, (N,), for weights in units of the inputs' integers, (N, K)."""
    return (scaled.abs().amax(1) / WEIGHT_LIMIT).clamp(min=1e-12)


def simulate_weight(weight: Tensor, activation: Activation) -> Tensor:
    """The real weights that the rounded ones stand for, gradients straight through; of a matrix, or of a convolution in the plane."""
    if weight.ndim == 4:
        taps = weight.permute(0, 2, 3, 1)
        return simulate_weight(taps.flatten(1), activation).view(taps.shape).permute(0, 3, 1, 2)
    scale = activation.scale.to(weight)
    scale = scale.repeat(weight.shape[1] // len(scale))  # a convolution's matrix holds its inputs tap by tap
    scaled = weight * scale
    steps = weight_steps(scaled.detach()).unsqueeze(1)
    rounded = scaled / steps
    rounded = rounded + (rounded.round() - rounded).detach()
    return rounded * steps / scale


def round_compensated(scaled: Tensor, steps: Tensor, gram: Tensor) -> Tensor:
    """Round weights one input at a time, the error of each spread over those still to come.

    Args:
        scaled: Weights, float64 (N, K).
        steps: Of each output, (N,).
        gram: Σ a aᵀ of the inputs' integers, (K, K).

    Returns:
        Integers within ±127, (N, K).

    Reference: GPTQ, arXiv:2210.17323, eqs. (2)-(3) with the Cholesky form of section 3.3.
    """
    count = len(gram)
    damping = 0.01 * gram.diagonal().mean().clamp(min=1e-12)
    order = gram.diagonal().argsort(descending=True)
    gram = gram[order][:, order] + damping * torch.eye(count, dtype=gram.dtype)
    factor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(gram)), upper=True)
    left = (scaled / steps.unsqueeze(1))[:, order].clone()
    out = torch.zeros_like(left)
    for k in range(count):
        out[:, k] = left[:, k].round().clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT)
        error = (left[:, k] - out[:, k]) / factor[k, k]
        left[:, k + 1 :] -= error.unsqueeze(1) * factor[k, k + 1 :]
    return out[:, order.argsort()]


@dataclass(frozen=True)
class RoundedLinear:
    """An integer layer and what its sums mean: W x + b ≈ steps · acc + offsets.

    Args:
        layer: The integer layer.
        steps: Real size of one unit of its sums, float64 (N,).
        offsets: Bias and zero points, float64 (N,).
    """

    layer: IntegerLinear
    steps: Tensor
    offsets: Tensor

    def take(self, rows: Tensor) -> RoundedLinear:
        """The same with these outputs, in this order."""
        layer = IntegerLinear(self.layer.weight.shape[1], len(rows), self.layer.low, self.layer.high)
        layer.weight.copy_(self.layer.weight[rows])
        return RoundedLinear(layer, self.steps[rows], self.offsets[rows])


def unit_steps(layer: nn.Linear, activation: Activation) -> Tensor:
    """The real size of one unit of a layer's sums, float64 (N,), by its own weights."""
    return weight_steps(layer.weight.detach().double().cpu() * activation.scale)


def round_linear(
    layer: nn.Linear, activation: Activation, samples: Tensor | None = None, steps: Tensor | None = None
) -> RoundedLinear:
    """The integer layer of a float one.

    Args:
        layer: The float layer.
        activation: How its inputs become integers.
        samples: Inputs on calibration data, (rows, K), for compensated rounding; to the nearest integer without them.
        steps: The real sizes, where they are given: those of its own weights or larger.
    """
    scaled = layer.weight.detach().double().cpu() * activation.scale
    bias = torch.zeros(len(scaled)) if layer.bias is None else layer.bias.detach().cpu()
    steps = weight_steps(scaled) if steps is None else steps
    if samples is None:
        weight = (scaled / steps.unsqueeze(1)).round()
    else:
        units = activation.simulate(samples) / activation.scale
        weight = round_compensated(scaled, steps, units.t() @ units)
    integer = IntegerLinear(layer.in_features, layer.out_features, activation.low, activation.high)
    integer.weight.copy_(weight.to(torch.int8))
    return RoundedLinear(integer, steps, bias.double() - steps * (weight @ activation.zero))
