"""From a density whose bins can be integrated to an exact mass of integers."""

from __future__ import annotations

import torch
from torch import Tensor

from codelength.errors import UsageError
from codelength.models.base import LikelihoodModel, can
from codelength.transforms.dequantization.dequantized import floor_to_space


class Discretized(LikelihoodModel):
    """P(x) = Π_i ∫ p_i(y) dy over [x_i, x_i + 1), exact: the value that the bounds of `Dequantized` approach.

    Args:
        density: Factorized model of measure "density" with `log_interval_mass(low, high)`, or else `cdf(y)`, both
            elementwise. Differences of a `cdf` lose all digits in the tails; `log_interval_mass` need not.
        open_edges: Give the first and last level all mass beyond them, so that P sums to 1 over the levels even
            where the density leaves [offset, offset + levels)^D. Without it P sums to the mass inside.

    Raises:
        UsageError: `density` is no density, or has neither member.
    """

    def __init__(self, density: LikelihoodModel, *, open_edges: bool = False) -> None:
        if density.measure != "density" or not (can(density, "log_interval_mass") or can(density, "cdf")):
            raise UsageError(
                f"Discretized: {type(density).__name__} (measure {density.measure!r}) cannot be integrated over bins; "
                "wanted a factorized density with log_interval_mass or cdf. Dequantize it instead, for a bound"
            )
        super().__init__(density.space, "mass", density.conditioning)
        self.density, self.open_edges = density, open_edges

    def log_prob(self, x: Tensor, **conditions: Tensor) -> Tensor:
        """Exact log P(x), nats, (B,), of integers x, (B, ...)."""
        if x.is_floating_point():
            raise ValueError(f"Discretized: data of dtype {x.dtype}; wanted integers")
        low = x.to(self.dtype)
        high = low + 1
        if self.open_edges:
            first, last = self.space.offset, self.space.offset + self.space.levels - 1
            low = torch.where(x == first, torch.full_like(low, -torch.inf), low)
            high = torch.where(x == last, torch.full_like(high, torch.inf), high)
        return self._log_interval_mass(low, high, **conditions).flatten(1).sum(1)

    def _log_interval_mass(self, low: Tensor, high: Tensor, **conditions: Tensor) -> Tensor:
        if can(self.density, "log_interval_mass"):
            return self.density.log_interval_mass(low, high, **conditions)  # type: ignore[operator]
        return torch.log(self.density.cdf(high, **conditions) - self.density.cdf(low, **conditions))  # type: ignore[operator]

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator, **conditions: Tensor) -> Tensor:
        """Draw n data: samples of the density, rounded down and clamped to the levels.

        With `open_edges` they follow P exactly; without, mass outside the levels is moved to the edge levels.
        """
        return floor_to_space(self.density.sample(n, generator, **conditions), self.space)  # type: ignore[operator]
