"""Divergences of densities in the plane by quadrature on a grid: no sampling error, so that fits can be judged.

Kernels are Gaussian, so that a sum over all pairs of grid points is two products with one matrix an axis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from codelength.divergences import gaussians, tables
from codelength.divergences.gaussians import Gaussian
from codelength.errors import UsageError


@dataclass(frozen=True)
class GridDensity:
    """A density on the points of a grid.

    Args:
        mass: Probability of each cell, (G²,), summing to 1.
        score: ∇ log density, (G², 2); None where it is not known.
    """

    mass: Tensor
    score: Tensor | None = None


@dataclass(frozen=True)
class Grid:
    """G x G points on [−reach, reach]².

    Args:
        reach: Half the side.
        size: G.
        bandwidth: Bandwidth of the Gaussian kernel of MMD and KSD.
    """

    reach: float = 9.0
    size: int = 181
    bandwidth: float = 1.0
    _axis: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        axis = torch.linspace(-self.reach, self.reach, self.size, dtype=torch.float64)
        object.__setattr__(self, "_axis", axis)

    @property
    def points(self) -> Tensor:
        """(G², 2)."""
        return torch.cartesian_prod(self._axis, self._axis)

    @property
    def cell(self) -> float:
        """Area of a cell."""
        return float(self._axis[1] - self._axis[0]) ** 2

    def density(self, log_prob: Callable[[Tensor], Tensor], *, normalized: bool = True) -> GridDensity:
        """The density with this log density, which may lack its constant if not `normalized`.

        Raises:
            UsageError: More than 1% of a normalized density lies outside the grid or between its points.
        """
        with torch.enable_grad():
            points = self.points.requires_grad_()
            logs = log_prob(points)
            score = torch.autograd.grad(logs.sum(), points)[0] if logs.requires_grad else None
        logs = logs.detach().double()
        total = float(logs.exp().sum() * self.cell) if normalized else 1.0
        if not 0.99 < total < 1.01:
            raise UsageError(
                f"the density sums to {total:.4f} on a grid of ±{self.reach}; wanted 1: choose another grid"
            )
        return GridDensity(torch.softmax(logs, 0), score)

    def moments(self, p: GridDensity) -> Gaussian:
        """The Gaussian with p's mean and covariance."""
        mean = p.mass @ self.points
        away = self.points - mean
        return Gaussian(mean, (p.mass[:, None] * away).T @ away)

    def kernel_product(self, values: Tensor) -> Tensor:
        """Σ_j k(x_i, x_j) v_j of each column of v, (G², C)."""
        line = torch.exp(-0.5 * ((self._axis[:, None] - self._axis) / self.bandwidth) ** 2)
        square = values.T.reshape(-1, self.size, self.size)
        return (line @ square @ line).reshape(-1, self.size**2).T

    def mmd_squared(self, p: GridDensity, q: GridDensity) -> float:
        """MMD²."""
        difference = (p.mass - q.mass)[:, None]
        return float((difference * self.kernel_product(difference)).sum())

    def fisher(self, p: GridDensity, q: GridDensity) -> float:
        """½ E_p |∇ log p − ∇ log q|²."""
        return float(0.5 * (p.mass * _score_difference(p, q).square().sum(1)).sum())

    def ksd_squared(self, p: GridDensity, q: GridDensity) -> float:
        """KSD² of points of q against the score of p."""
        weighted = q.mass[:, None] * _score_difference(p, q)
        return float((weighted * self.kernel_product(weighted)).sum())

    def divergences(self, p: GridDensity, q: GridDensity) -> dict[str, float]:
        """Every divergence of a target p and a fit q, nats where it has a unit."""
        a, b = p.mass, q.mass
        return {
            "forward_kl": float(tables.kl(a, b)),
            "reverse_kl": float(tables.kl(b, a)),
            "jensen_shannon": float(tables.jensen_shannon(a, b)),
            "chi_squared": float(tables.chi_squared(a, b)),
            "reverse_chi_squared": float(tables.chi_squared(b, a)),
            "renyi_half": float(tables.renyi(a, b, 0.5)),
            "amari_half": float(tables.amari(a, b, 0.5)),
            "bregman_squared": float(tables.bregman(a, b, "squared")) / self.cell,
            "fisher": self.fisher(p, q),
            "ksd_squared": self.ksd_squared(p, q),
            "mmd_squared": self.mmd_squared(p, q),
            "frechet_squared": float(gaussians.frechet_squared(self.moments(p), self.moments(q))),
        }


def _score_difference(p: GridDensity, q: GridDensity) -> Tensor:
    if p.score is None or q.score is None:
        raise UsageError(
            "a density without scores has no score divergence; give a log density that can be differentiated"
        )
    return p.score - q.score
