"""From a trained Gated PixelCNN to its integer form."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codelength.integer import Lookup
from codelength.integer.calibration import Observations
from codelength.integer.rounding import Activation, RoundedLinear, fit_activation, round_linear
from codelength.models.autoregressive.gated_pixelcnn import GatedLayer, GatedPixelCNN
from codelength.models.quantized.attention import fit_symmetric
from codelength.models.quantized.gated_pixelcnn import IntegerConv, IntegerGatedLayer, IntegerGatedPixelCNN
from codelength.models.quantized.parts import STREAM, bounds, copy_buffers, stream_requantize, table_bits
from codelength.nn.causal_conv import CausalConv
from codelength.nn.conditions import LabelBias
from codelength.quantization.quantizer import Quantizer

IMAGES_AT_ONCE = 16


def gated_passes(model: GatedPixelCNN, x: Tensor, **conditions: Tensor) -> None:
    """Calibration data through the network, a few images at a time."""
    for start in range(0, len(x), IMAGES_AT_ONCE):
        part = slice(start, start + IMAGES_AT_ONCE)
        model.conditionals(x[part], **{name: value[part] for name, value in conditions.items()})


def gated_activations(model: GatedPixelCNN, bits: int, seen: Observations) -> dict[str, Activation]:
    """How the inputs of each layer become integers: gates and levels by what they are, the rest by what was seen."""
    activations = {}
    for index, layer in enumerate(model.stack):
        name = f"layers.{index}"
        gates = _unit(layer.out.inputs, bits)
        activations[f"{name}.vertical"] = _unit(2, table_bits(bits)) if layer.first else gates
        activations[f"{name}.out"] = gates
        activations[f"{name}.across"] = fit_activation(seen.inputs[f"{name}.across"], bits)
        horizontal = seen.inputs[f"{name}.horizontal"]
        activations[f"{name}.horizontal"] = (
            _unit(2, table_bits(bits)) if layer.first else fit_symmetric(horizontal, bits, per_channel=True)
        )
    for part in ("hidden", "out"):
        activations[f"out.{part}"] = fit_activation(seen.inputs[f"out.{part}"], bits)
    return activations


def _unit(channels: int, bits: int) -> Activation:
    """What lies in [−1, 1], of which 1 is the largest integer."""
    scale = torch.full((channels,), 1 / bounds(bits)[1], dtype=torch.float64)
    return Activation(scale, torch.zeros_like(scale), bits)


@torch.no_grad()
def convert_gated(
    model: GatedPixelCNN,
    integer: IntegerGatedPixelCNN,
    activations: dict[str, Activation],
    seen: Observations,
    *,
    compensate: bool,
) -> None:
    """Fill the integer network; arguments as for `convert_causal_window`. Convolutions go to the nearest integers."""
    levels = model.scale(torch.arange(model.space.levels)).double()
    largest = bounds(activations["layers.0.vertical"].bits)[1]
    integer.levels.set(torch.stack([levels, torch.ones_like(levels)], dim=1) * largest)
    for index, (layer, target) in enumerate(zip(model.stack, integer.stack, strict=True)):
        name = f"layers.{index}"
        for part in ("vertical", "horizontal", "across", "out"):
            _fill_conv(getattr(layer, part), getattr(target, part), activations[f"{name}.{part}"])
        copy_buffers(stream_requantize(activations[f"{name}.across"]), target.across_input)
        if target.horizontal_input is not None:
            copy_buffers(stream_requantize(activations[f"layers.{index + 1}.horizontal"]), target.horizontal_input)
        _fill_classes(layer, target)
    mlp = integer.mlp
    copy_buffers(stream_requantize(activations["out.hidden"]), mlp.hidden_input)
    _fill_conv(model.out.hidden, mlp.hidden, activations["out.hidden"])
    copy_buffers(stream_requantize(activations["out.out"]), mlp.out_input)
    samples = seen.inputs["out.out"] if compensate else None
    rounded = round_linear(_as_linear(model.out.out), activations["out.out"], samples).take(integer.single.rows())
    copy_buffers(rounded.layer, mlp.out)
    integer.single.set(rounded)


def _fill_conv(conv: CausalConv, target: IntegerConv, activation: Activation) -> None:
    rounded = _round_conv(conv, target.taps, activation)
    copy_buffers(rounded.layer, target.layer)
    target.grid.set(rounded.steps / STREAM, rounded.offsets / STREAM)


def _round_conv(conv: CausalConv, taps: list[int], activation: Activation) -> RoundedLinear:
    wide = Activation(activation.scale.repeat(len(taps)), activation.zero.repeat(len(taps)), activation.bits)
    return round_linear(_as_linear(conv, taps), wide)


def _as_linear(conv: CausalConv, taps: list[int] | None = None) -> nn.Linear:
    """The layer over gathered windows."""
    matrix = conv.matrix().detach().unflatten(1, (len(conv.offsets), conv.inputs))
    matrix = (matrix if taps is None else matrix[:, taps]).flatten(1)
    linear = nn.Linear(matrix.shape[1], matrix.shape[0])
    linear.weight.copy_(matrix)
    linear.bias.copy_(conv.bias.detach())
    return linear


def _fill_classes(layer: GatedLayer, target: IntegerGatedLayer) -> None:
    pairs: list[tuple[LabelBias | None, Lookup | None]] = [
        (layer.vertical_class, target.vertical_class),
        (layer.horizontal_class, target.horizontal_class),
    ]
    for bias, lookup in pairs:
        if bias is not None and lookup is not None:
            lookup.set(bias.weight.detach().double() / STREAM)


QUANTIZER = Quantizer(gated_passes, gated_activations, convert_gated, (CausalConv,))
