"""Mixtures of discretized logistics in integers: from a network's sums to cumulative counts.

    S(v) = Σ_k w_k · σ[ (64 v − 32 − μ_k) · r_k ],        C(v − 1) = S(v) + v · e,        0 < v < L,        C(−1) = 0,        C(L − 1) = 2^24 W + L e

with μ_k in 64ths of a level, w_k = exp-table[max − logit] up to 2^16, r_k from a table of inverse scales, σ a table of 65,536 entries at 24 bits,
W = Σ_k w_k and e the least count of a level: 2^−(15 + log2 L) of the total. S is monotone because the tables and
roundings are; w_k σ stays below 2^40 and the sum below 2^53, so float64 holds it exactly in any order of addition.

Grids and what they cost: 64ths of a level and of a nat for means and logits, 32nds of a nat for log scales, 2,048ths for the
argument of σ. An error δ of such a parameter costs about δ²/2 times its Fisher information, under 3e-4 nats each at the worst scale and
under 1e-4 bits together on photographs; the least count costs 2^−15 nats.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from codelength.functional import log_scale_floor
from codelength.integer.channel import IntegerChannel
from codelength.integer.derived import Derived
from codelength.integer.tables import lookup

MEAN_UNIT = 64
LOGIT_UNIT = 64
SCALE_UNIT = 32
LOGITS = 1024
WEIGHT_BITS = 16
SIGMOID_BITS = 24
SIGMOID_UNIT = 2048
SIGMOID_SIZE = 2**16
INVERSE_BITS = 14
WIDEST = 3.0
"""Largest log scale, in units where the levels span [−1, 1]: 20 times the range, a uniform distribution."""
FLOOR_BITS = 15


class LogisticTables(Derived):
    """The tables that all mixtures of a model share.

    Args:
        levels: Number of levels L, up to 65,536.

    Buffers:
        exponential: w for each difference of logits, int32 (1024,).
        inverse_scale: r · 2^14 for each step of the log scale from its floor up, int32.
        sigmoid: 2^24 σ at the middle of each cell of the grid, int32 (65536,).
    """

    exponential: Tensor
    inverse_scale: Tensor
    sigmoid: Tensor

    def __init__(self, levels: int) -> None:
        super().__init__()
        if not 2 <= levels <= 2**16:
            raise ValueError(f"LogisticTables: levels={levels}; wanted 2..65536")
        self.levels = levels
        self.low = log_scale_floor(levels)
        grid = torch.arange(LOGITS, dtype=torch.float64) / LOGIT_UNIT
        self.register_buffer("exponential", _rounded(torch.exp(-grid) * 2**WEIGHT_BITS))
        self.steps = math.ceil((WIDEST - self.low) * SCALE_UNIT) + 1
        log_scale = self.low + torch.arange(self.steps, dtype=torch.float64) / SCALE_UNIT
        in_levels = torch.exp(log_scale) * (levels - 1) / 2
        inverse = SIGMOID_UNIT / (MEAN_UNIT * in_levels)
        self.register_buffer("inverse_scale", _rounded((inverse * 2**INVERSE_BITS).clamp(min=1)))
        cell = (torch.arange(SIGMOID_SIZE, dtype=torch.float64) + 0.5 - SIGMOID_SIZE // 2) / SIGMOID_UNIT
        self.register_buffer("sigmoid", _rounded(torch.sigmoid(cell) * 2**SIGMOID_BITS))

    def _derive(self) -> dict[str, Tensor]:
        return {
            "exponential": self.exponential.float(),
            "inverse_scale": self.inverse_scale.float() * 2.0**-INVERSE_BITS,
            "sigmoid": self.sigmoid.double(),
        }

    def weights(self, logits: Tensor) -> Tensor:
        """Weights of components, (..., K) integer logits in 64ths of a nat -> float64 integers, the largest 2^16."""
        gap = (logits.amax(-1, keepdim=True) - logits).clamp_(max=LOGITS - 1)
        return lookup(self.derived["exponential"], gap).double()

    def inverse_scales(self, steps: Tensor) -> Tensor:
        """Inverse scales r, (..., K) steps of the log scale above its floor, clamped -> float32."""
        return lookup(self.derived["inverse_scale"], steps.clamp(0, self.steps - 1))

    def sigmoids(self, argument: Tensor) -> Tensor:
        """2^24 σ, (...) float32 argument in 2,048ths -> float64 integers. `argument` is overwritten."""
        cells = argument.add_(SIGMOID_SIZE // 2).clamp_(0, SIGMOID_SIZE - 1)
        return lookup(self.derived["sigmoid"], cells)  # the conversion to int32 cuts off the fraction

    def scale_step(self, log_scale: float) -> float:
        """The step that stands for a log scale in units where the levels span [−1, 1]."""
        return (log_scale - self.low) * SCALE_UNIT


class IntegerMixture(IntegerChannel):
    """One channel: components on the last dim, all parameters (B, *S, K).

    Args:
        weights: From `LogisticTables.weights`.
        mean: Means in 64ths of a level, float32 integers within 2^23.
        inverse_scale: From `LogisticTables.inverse_scales`.
        tables: The tables.
    """

    def __init__(self, weights: Tensor, mean: Tensor, inverse_scale: Tensor, tables: LogisticTables) -> None:
        self.levels, self.tables = tables.levels, tables
        self.weights, self.component_mean, self.inverse_scale = weights, mean, inverse_scale
        weight = weights.sum(-1)
        shift = SIGMOID_BITS - FLOOR_BITS - math.ceil(math.log2(self.levels))
        self._least = (weight * 2.0**shift).floor_()  # at least 1: some weight is 2^16, and shift >= -7
        self._scaled = weight * 2.0**SIGMOID_BITS
        self._total = self._scaled + self._least * self.levels

    @property
    def total(self) -> Tensor:
        return self._total

    def between(self, value: Tensor) -> Tensor:
        # The boundary under level v lies at v − 1/2: 64 v − 32 in 64ths.
        edge = (value * MEAN_UNIT - MEAN_UNIT // 2).unsqueeze(-1)
        parts = self.tables.sigmoids((edge - self.component_mean).mul_(self.inverse_scale))
        return parts.mul_(self.weights).sum(-1).add_(self._least * value)

    def below(self, value: Tensor) -> Tensor:
        inner = self.between(value)
        return torch.where(value <= 0, 0.0, torch.where(value >= self.levels, self._total, inner))


def _rounded(values: Tensor) -> Tensor:
    return values.round().to(torch.int32)
