"""From a trained integer discrete flow to its integer form."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from codelength.integer import IntegerLinear, Requantize
from codelength.integer.calibration import Observations
from codelength.integer.rounding import Activation, RoundedLinear, round_compensated, round_linear, weight_steps
from codelength.models.discrete_flows.dense import DenseTrunk, Translation
from codelength.models.discrete_flows.idf import IDF
from codelength.models.discrete_flows.priors import Head, Prior
from codelength.models.quantized.idf import (
    IntegerHead,
    IntegerIDF,
    IntegerPrior,
    IntegerTranslation,
    IntegerTrunk,
    LevelInputs,
)
from codelength.quantization.quantizer import Quantizer

IMAGES_AT_ONCE = 32
NEIGHBOURS = 0.9
"""Correlation of the inputs at neighbouring sites that compensated rounding of convolutions assumes."""
SHRINKS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)


def idf_passes(model: IDF, x: Tensor) -> None:
    """Calibration data through the network, a few images at a time."""
    for start in range(0, len(x), IMAGES_AT_ONCE):
        model.log_prob(x[start : start + IMAGES_AT_ONCE])


def _fit_rectified(samples: Tensor, limit: int) -> Tensor:
    """The scale of each channel of rectified features, (rows, C), that loses least squared error: (C,)."""
    top = samples.amax(0).clamp(min=1e-6)
    best, error = top / limit, torch.full_like(top, math.inf)
    for shrink in SHRINKS:
        scale = top * shrink / limit
        loss = ((samples / scale).round().clamp(0, limit) * scale - samples).square().mean(0)
        best, error = torch.where(loss < error, scale, best), torch.minimum(loss, error)
    return best


def idf_activations(model: IDF, bits: int, seen: Observations) -> dict[str, Activation]:
    """How the inputs of each convolution become integers: levels by what they are, features by what was seen, alike for all that read them."""
    inputs = LevelInputs(model.grid, bits)
    found: dict[str, Activation] = {}

    def add(name: str, scale: Tensor, levels: int = 0) -> None:
        scale = torch.cat([scale, torch.full((levels,), inputs.scale, dtype=torch.float64)])
        found[name] = Activation(scale, torch.zeros_like(scale), 1 + inputs.limit.bit_length())

    def trunk_scale(trunk: DenseTrunk, reader: str) -> Tensor:
        """Of a trunk's outputs, which `reader` takes first."""
        scale = _fit_rectified(seen.inputs[reader][:, : trunk.outputs].clamp(min=0), inputs.feature_limit)
        scale[: trunk.inputs] = inputs.scale
        return scale

    def add_trunk(trunk: DenseTrunk, scale: Tensor, name: str) -> None:
        for index, conv in enumerate(trunk.convs):
            assert isinstance(conv, nn.Conv2d)
            add(f"{name}.convs.{index}", scale[: conv.in_channels])

    for index, translation in enumerate(model.translations):
        assert isinstance(translation, Translation)
        name = f"translations.{index}"
        scale = trunk_scale(translation.trunk, f"{name}.out")
        add_trunk(translation.trunk, scale, f"{name}.trunk")
        add(f"{name}.out", scale)
    for index, prior in enumerate(model.priors):
        assert isinstance(prior, Prior)
        name = f"priors.{index}"
        if prior.trunk is not None:
            scale = trunk_scale(prior.trunk, f"{name}.heads.0.hidden")
            add_trunk(prior.trunk, scale, f"{name}.trunk")
        else:
            assert prior.table is not None
            scale = prior.table.detach().double().flatten(1).abs().amax(1).clamp(min=1e-6) / inputs.feature_limit
        for c in range(prior.channels):
            add(f"{name}.heads.{c}.hidden", scale, levels=c)
            add(f"{name}.heads.{c}.out", _fit_rectified(seen.inputs[f"{name}.heads.{c}.out"], inputs.feature_limit))
    return found


@torch.no_grad()
def convert_idf(
    model: IDF, integer: IntegerIDF, activations: dict[str, Activation], seen: Observations, *, compensate: bool
) -> None:
    """Fill the integer network; arguments as for `convert_causal_window`."""
    filling = _Filling(activations, seen, compensate)
    for index, (translation, target) in enumerate(zip(model.translations, integer.translations, strict=True)):
        assert isinstance(translation, Translation)
        assert isinstance(target, IntegerTranslation)
        filling.translation(translation, target, f"translations.{index}")
    for index, (prior, form) in enumerate(zip(model.priors, integer.priors, strict=True)):
        assert isinstance(prior, Prior)
        assert isinstance(form, IntegerPrior)
        filling.prior(prior, form, integer, f"priors.{index}")


class _Filling:
    """Rounds layers by their names and writes them into the integer network."""

    def __init__(self, activations: dict[str, Activation], seen: Observations, compensate: bool) -> None:
        self.activations, self.seen, self.compensate = activations, seen, compensate

    def site(self, conv: nn.Conv2d, name: str, target: IntegerLinear) -> RoundedLinear:
        """A 1x1 convolution."""
        linear = _as_linear(conv.weight.flatten(1), conv.bias)
        rounded = round_linear(linear, self.activations[name], self.seen.inputs[name] if self.compensate else None)
        target.weight.copy_(rounded.layer.weight)
        target.reset()
        return rounded

    def window(self, conv: nn.Conv2d, name: str, target: IntegerLinear, grid: Requantize, out_scale: Tensor) -> None:
        """A 3x3 convolution and the rectifier after it."""
        activation = self.activations[name]
        matrix = conv.weight.double().permute(0, 2, 3, 1).flatten(1)  # tap by tap
        scaled = matrix * activation.scale.repeat(9)
        steps = weight_steps(scaled)
        if self.compensate:
            units = self.seen.inputs[name] / activation.scale
            gram = torch.kron(_tap_correlation(), units.t() @ units / len(units))
            weight = round_compensated(scaled, steps, gram)
        else:
            weight = (scaled / steps.unsqueeze(1)).round()
        target.weight.copy_(weight.to(torch.int8))
        target.reset()
        bias = torch.zeros(len(steps)) if conv.bias is None else conv.bias
        grid.set(steps / out_scale, bias.double() / out_scale)

    def trunk(self, trunk: DenseTrunk, target: IntegerTrunk, name: str, last: str) -> None:
        """All layers; `last` reads all of their features."""
        scale = self.activations[last].scale
        for index, (conv, layer, grid) in enumerate(zip(trunk.convs, target.layers, target.grids, strict=True)):
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(layer, IntegerLinear)
            assert isinstance(grid, Requantize)
            made = scale[conv.in_channels : conv.in_channels + conv.out_channels]
            self.window(conv, f"{name}.convs.{index}", layer, grid, made)

    def translation(self, translation: Translation, target: IntegerTranslation, name: str) -> None:
        self.trunk(translation.trunk, target.trunk, f"{name}.trunk", f"{name}.out")
        rounded = self.site(translation.out, f"{name}.out", target.out)
        gain = translation.scale * (1.0 if translation.gain is None else float(translation.gain))
        # A negative gain is in the multiplier: requantization multiplies by any number.
        target.grid.set(_whole(rounded.steps * gain), _whole(rounded.offsets * gain))

    def prior(self, prior: Prior, target: IntegerPrior, integer: IntegerIDF, name: str) -> None:
        first = f"{name}.heads.0.hidden"
        if prior.trunk is not None and target.trunk is not None:
            self.trunk(prior.trunk, target.trunk, f"{name}.trunk", first)
        elif prior.table is not None and target.table is not None:
            table = prior.table.double().flatten(1).t() / self.activations[first].scale
            target.table.set(table)
        for c, (head, form) in enumerate(zip(prior.heads, target.heads, strict=True)):
            assert isinstance(head, Head)
            assert isinstance(form, IntegerHead)
            hidden, out = f"{name}.heads.{c}.hidden", f"{name}.heads.{c}.out"
            rounded = self.site(head.hidden, hidden, form.hidden)
            scale = self.activations[out].scale
            form.hidden_grid.set(rounded.steps / scale, rounded.offsets / scale)
            last = self.site(head.out, out, form.out)
            low = -math.log(prior.grid.half_range) - integer.tables.low
            form.mixture.set(last.steps, last.offsets + prior.first[c].double(), prior.mean_unit, low)


def _whole(values: Tensor) -> Tensor:
    """Values with those too small to matter as 0: requantization takes none of them."""
    return torch.where(values.abs() < 2.0**-40, torch.zeros_like(values), values)


def _tap_correlation() -> Tensor:
    """Assumed correlation of inputs at the nine sites of a window, (9, 9)."""
    place = torch.cartesian_prod(torch.arange(3), torch.arange(3)).double()
    return NEIGHBOURS ** (place[:, None] - place[None]).abs().sum(-1)


def _as_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    linear.weight.copy_(weight)
    if bias is not None:
        linear.bias.copy_(bias)
    return linear


QUANTIZER = Quantizer(idf_passes, idf_activations, convert_idf, (nn.Conv2d,))
