"""From trained transformers over pixels to their integer form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codelength.integer import Requantize
from codelength.integer.calibration import Observations
from codelength.integer.mixture import LOGIT_UNIT
from codelength.integer.rounding import Activation, RoundedLinear, fit_activation, round_linear
from codelength.models.autoregressive.pixel_transformer import PixelTransformer
from codelength.models.quantized.attention import IntegerAttention, IntegerLayerNorm, fit_symmetric
from codelength.models.quantized.parts import STREAM, copy_buffers, reach_of, stream_requantize, tanh_gelu
from codelength.models.quantized.pixel_transformer import IntegerBlock, IntegerPixelTransformer
from codelength.nn.attention import Block
from codelength.quantization.quantizer import Quantizer

IMAGES_AT_ONCE = 8


def transformer_passes(model: PixelTransformer, x: Tensor, **conditions: Tensor) -> None:
    """Calibration data through the network, a few images at a time."""
    for start in range(0, len(x), IMAGES_AT_ONCE):
        part = slice(start, start + IMAGES_AT_ONCE)
        model.conditionals(x[part], **{name: value[part] for name, value in conditions.items()})


def transformer_activations(model: PixelTransformer, bits: int, seen: Observations) -> dict[str, Activation]:
    """How the inputs of each layer become integers; queries, keys and values share theirs."""
    activations = {"output": fit_activation(seen.inputs["output"], bits)}
    for index in range(len(model.stack.blocks)):
        name = f"stack.blocks.{index}"
        shared = fit_activation(seen.inputs[f"{name}.attention.query"], bits)
        activations |= {f"{name}.attention.{part}": shared for part in ("query", "key", "value")}
        for part in ("attention.out", "widen", "narrow"):
            activations[f"{name}.{part}"] = fit_activation(seen.inputs[f"{name}.{part}"], bits)
    return activations


@torch.no_grad()
def convert_transformer(
    model: PixelTransformer,
    integer: IntegerPixelTransformer,
    activations: dict[str, Activation],
    seen: Observations,
    *,
    compensate: bool,
) -> None:
    """Fill the integer network; arguments as for `convert_causal_window`."""
    _fill_vectors(model, integer)
    rounding = _Rounding(activations, seen, compensate)
    for index, (block, target) in enumerate(zip(model.stack.blocks, integer.stack.blocks, strict=True)):
        assert isinstance(block, Block)
        assert isinstance(target, IntegerBlock)
        _fill_block(block, target, f"stack.blocks.{index}", rounding)
    activation = activations["output"]
    if isinstance(integer.output.grid, IntegerLayerNorm):
        assert isinstance(model.stack.norm, nn.LayerNorm)
        integer.output.grid.set(model.stack.norm, activation.scale, activation.zero)
    else:
        copy_buffers(stream_requantize(activation), integer.output.grid)
    rounded = rounding.layer(model.output, "output").take(integer.single.rows())
    copy_buffers(rounded.layer, integer.output.layer)
    integer.single.set(rounded)


class _Rounding:
    """Rounds layers by their names."""

    def __init__(self, activations: dict[str, Activation], seen: Observations, compensate: bool) -> None:
        self.activations, self.seen, self.compensate = activations, seen, compensate

    def layer(self, layer: nn.Linear, name: str) -> RoundedLinear:
        return round_linear(layer, self.activations[name], self.seen.inputs[name] if self.compensate else None)


def _fill_vectors(model: PixelTransformer, integer: IntegerPixelTransformer) -> None:
    content = model.content
    weight = content.weight.detach().double()
    if not content.discrete:
        levels = model.scale(torch.arange(content.levels)).double()
        weight = (weight.unsqueeze(1) * levels.view(1, -1, 1)).flatten(0, 1)
    integer.content.table.set(weight / STREAM)
    integer.places.set(model.places().detach() / STREAM)
    integer.first.set(model.first.detach().unsqueeze(0) / STREAM)
    if integer.class_vectors is not None and model.class_vectors is not None:
        integer.class_vectors.set(model.class_vectors.detach() / STREAM)


def _fill_block(block: Block, target: IntegerBlock, name: str, rounding: _Rounding) -> None:
    activations, seen = rounding.activations, rounding.seen
    inputs = activations[f"{name}.attention.query"], activations[f"{name}.widen"]
    norms = (block.norm_attention, target.norm_attention), (block.norm_network, target.norm_network)
    grids = target.attention_input, target.network_input
    for activation, (norm, integer_norm), grid in zip(inputs, norms, grids, strict=True):
        if grid is None:
            integer_norm.set(norm, activation.scale, activation.zero)
        else:
            integer_norm.set(norm, STREAM, 0.0)
            copy_buffers(stream_requantize(activation), grid)
    _fill_attention(block, target.attention, f"{name}.attention", rounding)
    widened = rounding.layer(block.widen, f"{name}.widen")
    copy_buffers(widened.layer, target.widen)
    function = tanh_gelu if block.activation == "gelu" else F.relu
    target.activation.set(function, widened.steps, reach_of(seen.outputs[f"{name}.widen"]), widened.offsets)
    copy_buffers(stream_requantize(activations[f"{name}.narrow"]), target.hidden_input)
    narrowed = rounding.layer(block.narrow, f"{name}.narrow")
    copy_buffers(narrowed.layer, target.narrow)
    target.stream.set(narrowed.steps / STREAM, narrowed.offsets / STREAM)


def _fill_attention(block: Block, target: IntegerAttention, name: str, rounding: _Rounding) -> None:
    attention: Any = block.attention
    parts: list[tuple[str, Any, Requantize]] = [
        ("query", target.query, target.query_grid),
        ("key", target.key, target.key_grid),
        ("value", target.value, target.value_grid),
    ]
    scales = {}
    for part, layer, grid in parts:
        rounded = rounding.layer(getattr(attention, part), f"{name}.{part}")
        copy_buffers(rounded.layer, layer)
        values = rounding.seen.outputs[f"{name}.{part}"]
        scale = fit_symmetric(values, target.bits, per_channel=part == "value").scale
        grid.set(rounded.steps / scale, rounded.offsets / scale)
        scales[part] = scale
    width = attention.query.out_features // attention.heads
    target.gap.set(float(scales["query"][0] * scales["key"][0]) * width**-0.5 * LOGIT_UNIT)
    activation = rounding.activations[f"{name}.out"]
    unit = scales["value"] * 2.0**-target.weight_bits
    target.out_grid.set(unit / activation.scale, activation.zero)
    out = rounding.layer(attention.out, f"{name}.out")
    copy_buffers(out.layer, target.out)
    target.stream.set(out.steps / STREAM, out.offsets / STREAM)


QUANTIZER = Quantizer(transformer_passes, transformer_activations, convert_transformer)
