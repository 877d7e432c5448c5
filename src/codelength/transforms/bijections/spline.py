"""Monotone rational-quadratic splines: K pieces between −B and B, the identity beyond.

With widths and heights of the bins from softmax, slopes δ at the inner knots from softplus and 1 at both ends, a number
in bin k at ξ in [0, 1], with s = height / width,

    z = y_k + height · (s ξ² + δ_k ξ (1 − ξ)) / (s + (δ_{k+1} + δ_k − 2 s) ξ (1 − ξ)).

The inverse solves a quadratic, in the form whose root does not cancel.

Own code although zuko and nflows have this transform: both are optional extras, which no system of ours may need. The
tests hold it against both.

Reference: Durkan et al., "Neural Spline Flows", arXiv:1906.04032, section 3.1, eqs. (4)-(8).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad, softmax, softplus

from codelength.transforms.bijections.elementwise import Elementwise

SMALLEST = 1e-3
"""Least width and height of a bin, as a share of all, and least slope of a knot."""


class _Bins(NamedTuple):
    """Knots and slopes, (B, ..., K + 1) each."""

    x: Tensor
    y: Tensor
    slope: Tensor


class _Bin(NamedTuple):
    """The bin of each number: its left knot, size and slopes, of the numbers' shape."""

    x: Tensor
    width: Tensor
    y: Tensor
    height: Tensor
    left: Tensor
    right: Tensor

    @property
    def mean(self) -> Tensor:
        """s = height / width."""
        return self.height / self.width

    @property
    def bend(self) -> Tensor:
        """δ_{k+1} + δ_k − 2 s: 0 where the piece is straight."""
        return self.left + self.right - 2 * self.mean

    def log_slope(self, xi: Tensor) -> Tensor:
        """log dz/dx at ξ."""
        mixed = xi * (1 - xi)
        numerator = self.right * xi**2 + 2 * self.mean * mixed + self.left * (1 - xi) ** 2
        return 2 * torch.log(self.mean) + torch.log(numerator) - 2 * torch.log(self.mean + self.bend * mixed)


class RationalQuadraticSpline(Elementwise):
    """Parameters of a number: K widths, K heights and K − 1 slopes, unconstrained; softplus⁻¹(1) added to the slopes
    makes zeros the identity.

    Args:
        bins: K.
        bound: B.

    Raises:
        ValueError: More bins than the least share of each leaves room for.
    """

    def __init__(self, bins: int = 8, *, bound: float = 5.0) -> None:
        if not 1 <= bins < 1 / SMALLEST:
            raise ValueError(f"RationalQuadraticSpline: bins={bins}; wanted 1..{int(1 / SMALLEST) - 1}")
        self.bins, self.bound, self.num_parameters = bins, bound, 3 * bins - 1

    def _knots(self, raw: Tensor) -> Tensor:
        """Knots from −B to B, (B, ..., K + 1), from unconstrained shares (B, ..., K)."""
        shares = SMALLEST + (1 - SMALLEST * self.bins) * softmax(raw, dim=-1)
        inner = self.bound * (2 * shares.cumsum(-1)[..., :-1] - 1)
        ends = torch.full_like(raw[..., :1], self.bound)
        return torch.cat([-ends, inner, ends], dim=-1)

    def _table(self, parameters: Tensor) -> _Bins:
        widths, heights, slopes = parameters.movedim(1, -1).split([self.bins, self.bins, self.bins - 1], dim=-1)
        one = torch.tensor(1 - SMALLEST, dtype=parameters.dtype).expm1().log()
        return _Bins(
            self._knots(widths), self._knots(heights), pad(SMALLEST + softplus(slopes + one), (1, 1), value=1.0)
        )

    def _find(self, value: Tensor, knots: Tensor, table: _Bins) -> _Bin:
        """The bin whose `knots` hold each value, the nearest for values outside."""
        k = (value.unsqueeze(-1) >= knots[..., 1:-1]).sum(-1, keepdim=True)

        def at(numbers: Tensor, index: Tensor) -> Tensor:
            return numbers.gather(-1, index).squeeze(-1)

        x, y = at(table.x, k), at(table.y, k)
        width, height = at(table.x, k + 1) - x, at(table.y, k + 1) - y
        return _Bin(x, width, y, height, at(table.slope, k), at(table.slope, k + 1))

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        table = self._table(parameters)
        inside = x.abs() < self.bound
        at = self._find(x, table.x, table)
        xi = torch.where(inside, (x - at.x) / at.width, torch.full_like(x, 0.5))
        mixed = xi * (1 - xi)
        z = at.y + at.height * (at.mean * xi**2 + at.left * mixed) / (at.mean + at.bend * mixed)
        return torch.where(inside, z, x), torch.where(inside, at.log_slope(xi), torch.zeros_like(x))

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        table = self._table(parameters)
        inside = z.abs() < self.bound
        at = self._find(z, table.y, table)
        rise = torch.where(inside, z - at.y, at.height / 2)
        a = at.height * (at.mean - at.left) + rise * at.bend
        b = at.height * at.left - rise * at.bend
        c = -at.mean * rise
        xi = 2 * c / (-b - torch.sqrt((b**2 - 4 * a * c).clamp(min=0)))
        x = at.x + at.width * xi
        return torch.where(inside, x, z), torch.where(inside, -at.log_slope(xi), torch.zeros_like(z))
