"""Parts that integer networks share: GELU over sums, heads of pixel distributions, sums of sums."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from codelength.integer import IntegerChannel, IntegerLinear, IntegerMixture, LogisticTables, Lookup, Requantize
from codelength.integer.channel import IntegerCategorical
from codelength.integer.kernels import EXACT
from codelength.integer.mixture import LOGIT_UNIT, MEAN_UNIT, SCALE_UNIT
from codelength.integer.rounding import Activation

STREAM = 2.0**-12
"""Unit of values between layers, before they are requantized for a product."""
STREAM_LIMIT = 2**22
GRID = 4096
"""Entries of a table over sums."""

TABLE_BITS = 10
"""Least bits of inputs that come from tables of levels: a difference of levels must keep its last digit."""


def bounds(bits: int) -> tuple[int, int]:
    """Smallest and largest integer of so many bits."""
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def table_bits(bits: int) -> int:
    """Bits of the inputs that come from tables, in a network whose activations have `bits`."""
    return max(bits, TABLE_BITS)


Function = Callable[[Tensor], Tensor]


def tanh_gelu(x: Tensor) -> Tensor:
    """GELU in the form that the networks are trained with."""
    return gelu(x, approximate="tanh")


class SumsTable(nn.Module):
    """A function of exact sums: requantization to a grid, then a table. Results are in units of STREAM.

    Args:
        channels: Number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = GRID // 2
        self.grid = Requantize(channels, -half, half - 1)
        self.table = Lookup(-half, GRID)
        self.set(tanh_gelu, torch.full((channels,), 2.0**-9), 8.0)

    def set(
        self, function: Function, steps: Tensor, reach: float, offsets: Tensor | float = 0.0, unit: float = STREAM
    ) -> None:
        """Tabulate a function.

        Args:
            function: Of real sums.
            steps: Real size of a unit of each channel's sums, (C,).
            reach: The largest |sum| that the grid must hold.
            offsets: Real values added to the sums, (C,).
            unit: Real size of a unit of the results.
        """
        step = reach / (GRID // 2)
        self.grid.set(steps / step, offsets / step)
        self.table.set_function(function, step, unit, -STREAM_LIMIT, STREAM_LIMIT)

    def forward(self, sums: Tensor) -> Tensor:
        """(M, C) exact sums -> (M, C) float32 integers."""
        index = self.grid.index(sums)
        return torch.index_select(self.table.entries, 0, index.flatten()).view(index.shape)


def stream_requantize(activation: Activation, unit: float = STREAM) -> Requantize:
    """From the stream to the integers of an activation."""
    requantize = Requantize(len(activation.scale), activation.low, activation.high)
    requantize.set(unit / activation.scale, activation.zero)
    return requantize


def add_exact(*sums: tuple[IntegerLinear, Tensor]) -> Tensor:
    """The sum of several layers' sums: float32 where it provably stays within 2^24, else int32."""
    first, *others = (tensor for _, tensor in sums)
    if (
        any(tensor.dtype == torch.int32 for _, tensor in sums)
        or sum(layer.derived["bound"] for layer, _ in sums) > EXACT
    ):
        first, others = first.to(torch.int32), [other.to(torch.int32) for other in others]
    for other in others:
        first = first + other
    return first


class MixtureGrid(nn.Module):
    """From sums to the parameters of a mixture of logistics, on their grids.

    The columns are K logits, K means (relative to a center) and K log scales.

    Args:
        components: K.
    """

    def __init__(self, components: int) -> None:
        super().__init__()
        self.components = components
        self.grid = Requantize(3 * components, -STREAM_LIMIT, STREAM_LIMIT)
        self.grid.set(torch.full((3 * components,), 2.0**-7))

    def set(self, steps: Tensor, offsets: Tensor, mean_levels: float, log_scale_offset: float) -> None:
        """Take what the sums mean.

        Args:
            steps: Real size of a unit of each sum, (3 K,).
            offsets: Real values added to the sums, (3 K,).
            mean_levels: Levels that a real mean of 1 stands for.
            log_scale_offset: Added to real log scales; −`LogisticTables.low` where they are on the scale of [−1, 1].
        """
        units = torch.tensor([LOGIT_UNIT, mean_levels * MEAN_UNIT, SCALE_UNIT], dtype=torch.float64)
        units = units.repeat_interleave(self.components)
        shift = torch.zeros_like(units)
        shift[2 * self.components :] = log_scale_offset * SCALE_UNIT
        self.grid.set(steps * units, offsets * units + shift)

    def forward(self, sums: Tensor, center: Tensor, tables: LogisticTables, shape: torch.Size) -> IntegerChannel:
        """The channel's distribution at M sites laid out as `shape`.

        Args:
            sums: (M, 3 K).
            center: In 64ths of a level, float32 integers (M, 1).
            tables: The model's tables.
            shape: (B, *S).
        """
        logits, mean, steps = self.grid(sums).split(self.components, dim=1)
        weights, inverse = tables.weights(logits), tables.inverse_scales(steps)
        weights, mean, inverse = (part.unflatten(0, shape) for part in (weights, mean + center, inverse))
        return IntegerMixture(weights, mean, inverse, tables)


class WeightGrid(nn.Module):
    """From sums to a table of weights a site: categorical and Bernoulli pixels.

    Args:
        outputs: Numbers a site: the levels, or 1 for a Bernoulli, whose other logit is 0.
    """

    EXPONENT_BITS = 24
    SIZE = 2048

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.grid = Requantize(outputs, -(2**20), 2**20)
        self.grid.set(torch.full((outputs,), 2.0**-7))
        self.exponential = Lookup(0, self.SIZE)
        self.exponential.set_function(lambda gap: torch.exp(-gap), 1 / LOGIT_UNIT, 2.0**-self.EXPONENT_BITS, 0, 2**24)

    def set(self, steps: Tensor, offsets: Tensor) -> None:
        """Take the real size of a unit of each sum, and the values added to the sums, (outputs,) each."""
        self.grid.set(steps * LOGIT_UNIT, offsets * LOGIT_UNIT)

    def forward(self, sums: Tensor, shape: torch.Size) -> IntegerChannel:
        """The channel's distribution at M sites laid out as `shape`."""
        logits = self.grid(sums)
        if self.outputs == 1:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        gap = (logits.amax(1, keepdim=True) - logits).clamp_(max=self.SIZE - 1)
        return IntegerCategorical(self.exponential(gap).unflatten(0, shape))


def copy_buffers(source: nn.Module, target: nn.Module) -> None:
    """Give a part of the model the integers of another of its kind."""
    target.load_state_dict(source.state_dict())


def reach_of(values: Tensor) -> float:
    """The largest |value| that a table should hold, with room for data unlike the calibration's."""
    return 2.0 ** math.ceil(math.log2(max(1.0, 1.25 * float(values.abs().max()))))
