"""Attention and normalization in integers.

Attention: scores are exact sums of products of integers; softmax is a table of exp over differences to the largest score, an
exact sum, and one division a weight:

    w_j = exp-table[floor((max s − s_j) m + ½)],    p_j = floor(w_j 2^P / Σ w + ½),    out = Σ_j p_j v_j  (units of 2^−P)

P is such that the last sum stays within 2^24 too. Layer normalization, in float64 on integers c = floor((N x − Σ x) / 2^s) of at most
21 bits: Σ c² is exact below 2^53 in any order, and the division, the square root and the second division are each rounded once, as IEEE-754 asks of them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from codelength.errors import CodecError
from codelength.integer import IntegerLinear, Lookup, Requantize
from codelength.integer.derived import Derived
from codelength.integer.kernels import EXACT, require_exact_arithmetic
from codelength.integer.rounding import Activation
from codelength.integer.tables import lookup
from codelength.models.quantized.parts import STREAM, STREAM_LIMIT, bounds

EXP_SIZE = 1024
EXP_UNIT = 64
EXP_BITS = 16
EPSILON = 1e-5
"""Of `nn.LayerNorm`."""


def attention_bits(bits: int, head_width: int) -> int:
    """Bits of queries, keys and values: as many as activations have, or as scores within 2^24 allow.

    >>> attention_bits(12, 64), attention_bits(8, 64)
    (10, 8)
    """
    return min(bits, 1 + (24 - math.ceil(math.log2(head_width))) // 2)


class IntegerAttention(Derived):
    """Multi-head attention on the integers of an activation.

    Args:
        width: Width of the inputs and outputs.
        heads, key_width, value_width: As for `Attention`.
        mask: Which key each query sees, (heads, T, T) bool.
        bits: Bits of activations.
    """

    def __init__(self, width: int, heads: int, key_width: int, value_width: int, mask: Tensor, bits: int) -> None:
        super().__init__()
        low, high = bounds(bits)
        self.heads = heads
        self.mask: Tensor
        self.register_buffer("mask", mask, persistent=False)
        self.bits = attention_bits(bits, key_width // heads)
        ends = bounds(self.bits)
        self.query, self.key = (IntegerLinear(width, key_width, low, high) for _ in range(2))
        self.value = IntegerLinear(width, value_width, low, high)
        self.query_grid, self.key_grid = (Requantize(key_width, *ends) for _ in range(2))
        self.value_grid = Requantize(value_width, *ends)
        self.gap = Requantize(1, 0, EXP_SIZE - 1)
        self.exponential = Lookup(0, EXP_SIZE)
        self.exponential.set_function(lambda x: torch.exp(-x), 1 / EXP_UNIT, 2.0**-EXP_BITS, 0, 2**EXP_BITS)
        self.weight_bits = 23 - (self.bits - 1)
        self.out_grid = Requantize(value_width, low, high)
        self.out = IntegerLinear(value_width, width, low, high)
        self.stream = Requantize(width, -STREAM_LIMIT, STREAM_LIMIT)

    def _derive(self) -> dict[str, Any]:
        """The proofs: scores and weighted sums within 2^24, and products that are exact here."""
        reach, length = 2 ** (self.bits - 1), self.mask.shape[-1]
        width = self.query.weight.shape[0] // self.heads
        if width * reach**2 > EXACT or (2**self.weight_bits + length) * reach > EXACT:
            raise CodecError(f"attention of {self.bits} bits over {length} positions {width} wide leaves 2^24")
        require_exact_arithmetic(self.query.weight.device)
        a = torch.full((2, 3, width), float(reach - 1))
        a[..., 0] = -reach
        expected = (a.double() @ a.double().transpose(1, 2)).float()
        if not torch.equal(torch.matmul(a, a.transpose(1, 2)), expected):
            raise CodecError("float32 products of integers are not exact here; unset reduced-precision math modes")
        return {"keys": [[row.nonzero().flatten() for row in head] for head in self.mask.transpose(0, 1)]}

    def project(self, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Integers of an activation, (..., width), to queries, keys and values, (..., heads, d)."""
        flat = a.flatten(0, -2)
        parts = (
            (self.query, self.query_grid),
            (self.key, self.key_grid),
            (self.value, self.value_grid),
        )
        q, k, v = (grid(layer(flat)).view(*a.shape[:-1], self.heads, -1) for layer, grid in parts)
        return q, k, v

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """(n, heads, Q, d) queries, (n, heads, K, d) keys and values; mask (heads, Q, K): (n, heads, Q, e)."""
        _ = self.derived
        scores = torch.matmul(q, k.transpose(-1, -2))  # (n, heads, Q, K), exact
        seen = scores if mask is None else scores.masked_fill(~mask, -(2.0**25))
        gap = seen.amax(-1, keepdim=True) - seen
        weights = lookup(self.exponential.entries, self.gap.index(gap)).double()
        if mask is not None:
            weights = weights.masked_fill_(~mask, 0.0)
        shares = (weights * 2.0**self.weight_bits).div_(weights.sum(-1, keepdim=True)).add_(0.5).floor_()
        return torch.matmul(shares.float(), v)

    def finish(self, attended: Tensor) -> Tensor:
        """(M, value_width) weighted sums to what the branch adds to the stream, (M, width)."""
        out: Tensor = self.stream(self.out(self.out_grid(attended)))
        return out

    def forward(self, a: Tensor) -> Tensor:
        """All positions: integers of an activation, (B, T, width), to what is added to the stream."""
        q, k, v = (part.transpose(1, 2) for part in self.project(a))
        parts = [self.attend(*each, self.mask) for each in zip(q.split(1), k.split(1), v.split(1), strict=True)]
        attended = torch.cat(parts).transpose(1, 2).flatten(2)  # (B, T, value_width)
        return self.finish(attended.flatten(0, 1)).view(a.shape)

    def cache(self, n: int) -> tuple[Tensor, Tensor]:
        """Empty keys and values of n sequences, (n, heads, T, d)."""
        length = self.mask.shape[-1]
        sizes = (len(layer.weight) // self.heads for layer in (self.key, self.value))
        keys, values = (torch.zeros(n, self.heads, length, size) for size in sizes)
        return keys, values

    def step(self, a: Tensor, position: int, cache: tuple[Tensor, Tensor]) -> Tensor:
        """One position, (n, width)."""
        q, k, v = self.project(a)
        keys, values = cache
        keys[:, :, position], values[:, :, position] = k, v
        parts = []
        for head, seen in enumerate(self.derived["keys"][position]):
            own = slice(head, head + 1)
            parts.append(self.attend(q[:, own, None], keys[:, own, seen], values[:, own, seen], None))
        return self.finish(torch.cat(parts, dim=1).flatten(1))


class IntegerLayerNorm(nn.Module):
    """(x − mean) / sqrt(var + ε) · γ + β on a stream of integers, requantized.

    Args:
        width: Width N of the stream.
        low, high: Bounds of the result.
    """

    def __init__(self, width: int, low: int, high: int) -> None:
        super().__init__()
        self.width = width
        self.shift = math.ceil(math.log2(width)) + 2
        unit = STREAM * 2.0**self.shift / width
        self.epsilon = EPSILON / (unit * unit)
        self.grid = Requantize(width, low, high)
        self.grid.set(1.0)

    def set(self, norm: nn.LayerNorm, scale: Tensor | float, zero: Tensor | float) -> None:
        """Take γ and β, with the scale and the zero point of the result."""
        gain, bias = norm.weight.detach().double(), norm.bias.detach().double()
        self.grid.set(_nonzero(gain / scale), bias / scale + zero)

    def forward(self, x: Tensor) -> Tensor:
        """(..., N) float32 integers in units of STREAM -> (..., N) float32 integers."""
        wide = x.clamp(-STREAM_LIMIT, STREAM_LIMIT).double()
        centered = (wide * self.width).sub_(wide.sum(-1, keepdim=True)).mul_(2.0**-self.shift).floor_()
        squares = centered.square().sum(-1, keepdim=True)
        centered /= squares.div_(self.width).add_(self.epsilon).sqrt_()
        normalized: Tensor = self.grid(centered)
        return normalized


def _nonzero(values: Tensor) -> Tensor:
    """Multipliers may not vanish into subnormal numbers: a gain under 2^-40 is none."""
    return torch.where(values.abs() < 2.0**-40, torch.zeros_like(values), values)


def fit_symmetric(samples: Tensor, bits: int, *, per_channel: bool) -> Activation:
    """A range around 0, whose zero point is 0: for products of two activations, and for padding with zeros."""
    largest = samples.abs().amax(0)
    largest = largest if per_channel else largest.max().expand_as(largest)
    return Activation(largest.clamp(min=1e-6) / bounds(bits)[1], torch.zeros_like(largest), bits)
