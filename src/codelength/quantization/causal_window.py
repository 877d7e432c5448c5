"""From a trained causal window network to its integer form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from codelength.functional import log_scale_floor
from codelength.integer import Lookup
from codelength.integer.calibration import Observations
from codelength.integer.rounding import Activation, RoundedLinear, fit_activation, round_linear, unit_steps
from codelength.models.autoregressive.causal_window import CausalWindow
from codelength.models.autoregressive.causal_window_heads import ChannelHead
from codelength.models.quantized.causal_window import IntegerCausalWindow, IntegerHead, WindowInputs
from codelength.models.quantized.parts import (
    MixtureGrid,
    WeightGrid,
    bounds,
    copy_buffers,
    reach_of,
    stream_requantize,
    table_bits,
    tanh_gelu,
)
from codelength.quantization.quantizer import Quantizer
from codelength.randomness import make_generator

PASSES = 4
FEATURES = "heads.0.out"
"""A layer whose inputs are the trunk's features: the first channel's head sees nothing else. All heads share their integers."""


def window_passes(model: CausalWindow, x: Tensor, **conditions: Tensor) -> None:
    """Random sites of calibration data through the network, as in training."""
    generator = make_generator("calibration")
    for _ in range(PASSES):
        model.training_objective(x, generator, **conditions)


def window_activations(model: CausalWindow, bits: int, seen: Observations) -> dict[str, Activation]:
    """How the inputs of each layer become integers: from their tables where they are such, else from what was seen."""
    activations = {"embed": _input_activation(model, table_bits(bits))}
    for index in range(len(model.hidden)):
        activations[f"hidden.{index}"] = fit_activation(seen.inputs[f"hidden.{index}"], bits)
    shared = fit_activation(seen.inputs[FEATURES], bits)
    for channel, head in enumerate(model.heads):
        assert isinstance(head, ChannelHead)
        name = f"heads.{channel}"
        if not head.coupled:
            activations[f"{name}.out"] = shared
            continue
        activations[f"{name}.features"] = shared
        scales = _known(model, head)[1].abs().amax(0) / bounds(table_bits(bits))[1]
        # Columns of the float layer: function by function, and in each the channels before.
        activations[f"{name}.residuals"] = _symmetric(scales.repeat_interleave(channel), table_bits(bits))
        activations[f"{name}.out"] = fit_activation(seen.inputs[f"{name}.out"], bits)
    return activations


def _symmetric(scale: Tensor, bits: int) -> Activation:
    return Activation(scale.clamp(min=1e-9), torch.zeros_like(scale), bits)


def _differences(levels: int) -> Tensor:
    return torch.arange(1 - levels, levels, dtype=torch.float64)


def _input_tables(model: CausalWindow) -> dict[str, Tensor]:
    """Real values of the inputs' tables, float64; see `Window.inputs`."""
    window, units = model.window, model.units
    difference = _differences(window.levels) * units.per_level
    level = torch.arange(window.levels, dtype=torch.float64)
    relative = units.relative(level)
    row = torch.arange(window.height, dtype=torch.float64)
    column = torch.arange(window.width, dtype=torch.float64)
    edges = (1 - column / window.reach, 1 - (window.width - 1 - column) / window.reach)
    slope = relative[1] - relative[0]
    return {
        "difference": torch.stack([difference / 64, torch.asinh(difference / 4) / 2], dim=1),
        "relative": relative,
        "row": torch.stack([row * (2 / window.height) - 1, (1 - row / window.rows).clamp(min=0)], dim=1),
        "column": torch.stack([column * (2 / window.width) - 1, *(edge.clamp(min=0) for edge in edges)], dim=1),
        "between": _differences(window.levels) * slope * 2,
    }


def _input_columns(model: CausalWindow) -> tuple[list[str], Tensor, Tensor]:
    """For each input of the float network: its table, the column in it; and the float column of each integer input."""
    window = model.window
    pairs, channels = len(window.offsets) * window.channels, window.channels
    names = ["difference"] * 2 * pairs + ["relative"] * channels
    names += ["row", "column", "row", "column", "column"] + ["between"] * (channels - 1)
    column = [0] * pairs + [1] * pairs + [0] * channels + [0, 0, 1, 1, 2] + [0] * (channels - 1)
    pair = torch.arange(pairs).view(-1, channels).t().flatten()  # channel by channel
    position = 2 * pairs + channels
    order = [
        torch.stack([pair, pair + pairs], dim=1).flatten(),
        torch.arange(2 * pairs, position),
        torch.tensor([position, position + 2, position + 1, position + 3, position + 4]),
        torch.arange(position + 5, len(names)),
    ]
    return names, torch.tensor(column), torch.cat(order)


def _table_scales(model: CausalWindow, bits: int) -> dict[str, Tensor]:
    tables = {name: values.view(len(values), -1) for name, values in _input_tables(model).items()}
    return {name: values.abs().amax(0).clamp(min=1e-9) / bounds(bits)[1] for name, values in tables.items()}


def _input_activation(model: CausalWindow, bits: int) -> Activation:
    names, columns, _ = _input_columns(model)
    scales = _table_scales(model, bits)
    return _symmetric(torch.stack([scales[name][int(k)] for name, k in zip(names, columns, strict=True)]), bits)


def _known(model: CausalWindow, head: ChannelHead) -> tuple[Tensor, Tensor]:
    """Residuals in levels, and the functions of them that a head sees, float64 (2 L − 1, 4)."""
    difference = _differences(head.levels)
    residual = difference * (2 / (head.levels - 1)) / model.units.zoom
    functions = [residual * 4, torch.asinh(residual * 32) / 2, torch.tanh(residual * 32), torch.tanh(residual * 128)]
    return difference, torch.stack(functions, dim=1)


@torch.no_grad()
def convert_causal_window(
    model: CausalWindow,
    integer: IntegerCausalWindow,
    activations: dict[str, Activation],
    seen: Observations,
    *,
    compensate: bool = True,
) -> None:
    """Fill the integer network with the float one's weights and tables.

    Args:
        model: The float network.
        integer: The network to fill, of the same options.
        activations: From `window_activations`.
        seen: What its layers see on calibration data.
        compensate: Round weights so that errors cancel on calibration data; else to the nearest integers.
    """
    _fill_inputs(model, integer.inputs, activations["embed"].bits)
    _fill_trunk(model, integer, activations, seen, compensate)
    for channel, (head, target) in enumerate(zip(model.heads, integer.heads, strict=True)):
        assert isinstance(head, ChannelHead)
        assert isinstance(target, IntegerHead)
        _fill_head(model, head, target, f"heads.{channel}", activations, seen, compensate)


def _fill_trunk(
    model: CausalWindow,
    integer: IntegerCausalWindow,
    activations: dict[str, Activation],
    seen: Observations,
    compensate: bool,
) -> None:
    layers: list[Any] = [model.embed, *model.hidden]
    targets: list[Any] = [integer.embed, *integer.hidden]
    gelus: list[Any] = list(integer.gelus)
    names = ["embed", *(f"hidden.{index}" for index in range(len(model.hidden)))]
    for index, (name, layer, target) in enumerate(zip(names, layers, targets, strict=True)):
        rounded = round_linear(layer, activations[name], seen.inputs[name] if compensate else None)
        if name == "embed":
            rounded.layer.weight.copy_(rounded.layer.weight[:, _input_columns(model)[2]])
        copy_buffers(rounded.layer, target)
        gelus[index].set(tanh_gelu, rounded.steps, reach_of(seen.outputs[name]), rounded.offsets)
        if len(model.class_biases):
            label_bias: Any = model.class_biases[index]
            lookup: Any = integer.class_biases[index]
            lookup.set(label_bias.weight.detach().double() / rounded.steps)
        after = names[index + 1] if index + 1 < len(names) else FEATURES
        copy_buffers(stream_requantize(activations[after]), integer.requantize[index])


def _fill_inputs(model: CausalWindow, inputs: WindowInputs, bits: int) -> None:
    scales = _table_scales(model, bits)
    inputs.start.copy_(torch.as_tensor(model.units.start).round().to(torch.int32))
    for name, values in _input_tables(model).items():
        lookup: Lookup = getattr(inputs, name)
        entries = values.view(len(values), -1) / scales[name]
        if name == "difference":  # what lies outside the image equals the prediction
            entries = torch.cat([entries, torch.zeros_like(entries[:1])])
        lookup.set(entries.view(lookup.values.shape))


def _fill_head(
    model: CausalWindow,
    head: ChannelHead,
    target: IntegerHead,
    name: str,
    activations: dict[str, Activation],
    seen: Observations,
    compensate: bool,
) -> None:
    def rounded(part: str, layer: torch.nn.Linear, steps: Tensor | None = None) -> RoundedLinear:
        samples = seen.inputs[f"{name}.{part}"] if compensate else None
        return round_linear(layer, activations[f"{name}.{part}"], samples, steps)

    if head.coupled:
        difference, functions = _known(model, head)
        scale = activations[f"{name}.residuals"].scale.view(4, -1)
        target.known.set(functions / scale[:, 0])
        target.center.set(0.8 * 64 * difference)
        # Both layers' sums are added, so they share one unit.
        steps = torch.maximum(
            *(
                unit_steps(layer, activations[f"{name}.{part}"])
                for part, layer in (("features", head.features), ("residuals", head.residuals))
            )
        )
        features = rounded("features", head.features, steps)
        residuals = rounded("residuals", head.residuals, steps)
        # From function by function to residual by residual.
        weight = residuals.layer.weight
        weight.copy_(weight.unflatten(1, (4, -1)).transpose(1, 2).flatten(1).clone())
        copy_buffers(features.layer, target.features)
        copy_buffers(residuals.layer, target.residuals)
        sums = seen.outputs[f"{name}.features"] + seen.outputs[f"{name}.residuals"]
        target.gelu.set(tanh_gelu, steps, reach_of(sums), features.offsets + residuals.offsets)
        copy_buffers(stream_requantize(activations[f"{name}.out"]), target.requantize)
    out = rounded("out", head.out)
    copy_buffers(out.layer, target.out)
    if isinstance(target.grid, WeightGrid):
        target.grid.set(out.steps, out.offsets)
    else:
        _fill_mixture(model, target.grid, out)


def _fill_mixture(model: CausalWindow, grid: MixtureGrid, out: RoundedLinear) -> None:
    levels, zoom = model.space.levels, torch.as_tensor(model.units.zoom, dtype=torch.float64)
    mean_levels = float(zoom) / 4 * (levels - 1) / 2
    grid.set(out.steps, out.offsets, mean_levels, float(zoom.log()) - log_scale_floor(levels))


QUANTIZER = Quantizer(window_passes, window_activations, convert_causal_window)
