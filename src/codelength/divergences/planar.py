"""Known densities in the plane: sampled, and evaluated exactly.

eight_gaussians   eight Gaussians on a circle
two_moons         two half circles with Gaussian noise; its density is an integral over the arc, by quadrature
checkerboard      uniform on eight of sixteen squares
pinwheel          five Gaussians stretched along a radius, wound up by an angle that depends on the radius

They are densities of real data: they have no bits/dim.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from codelength.data.dataset import SPLITS, DataSet, Split
from codelength.errors import UsageError, unknown_name
from codelength.randomness import make_generator
from codelength.space import Space


class PlanarDensity(ABC):
    """A density of points (n, 2), float64."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """log density of (n, 2), nats, (n,); −inf outside the support."""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n points, (n, 2)."""

    def score(self, x: Tensor) -> Tensor:
        """∇ log density at (n, 2)."""
        with torch.enable_grad():
            points = x.detach().requires_grad_()
            (score,) = torch.autograd.grad(self.log_prob(points).sum(), points)
        return score


@dataclass(frozen=True)
class Mixture(PlanarDensity):
    """A mixture of Gaussians.

    Args:
        weights: (K,), summing to 1.
        means: (K, 2).
        covariances: (K, 2, 2).
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        """log Σ_k w_k N(x; m_k, C_k)."""
        away = x[:, None] - self.means  # (n, K, 2)
        whitened = (away[..., None, :] @ torch.linalg.inv(self.covariances)).squeeze(-2)  # (n, K, 2)
        logs = -0.5 * (whitened * away).sum(-1) - 0.5 * torch.logdet(self.covariances) - math.log(2 * math.pi)
        return torch.logsumexp(logs + self.weights.log(), dim=1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n points, (n, 2)."""
        which = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, 2, 1, generator=generator, dtype=torch.float64)
        return self.means[which] + (torch.linalg.cholesky(self.covariances)[which] @ noise).squeeze(-1)


def isotropic_mixture(means: Tensor, std: float, weights: Tensor | None = None) -> Mixture:
    """A mixture of round Gaussians with means (K, 2), of equal weights if none are given."""
    count = len(means)
    weights = torch.full((count,), 1 / count, dtype=torch.float64) if weights is None else weights
    return Mixture(weights, means, std**2 * torch.eye(2, dtype=torch.float64).expand(count, 2, 2))


def eight_gaussians(radius: float = 2.0, std: float = 0.2) -> Mixture:
    """Eight round Gaussians on a circle."""
    angle = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
    return isotropic_mixture(radius * torch.stack([angle.cos(), angle.sin()], 1), std)


def three_modes() -> Mixture:
    """Three modes of unequal weight (0.5, 0.3, 0.2): what the experiment fits with one Gaussian."""
    means = torch.tensor([[-3.0, 0.0], [2.5, 2.0], [2.0, -2.8]], dtype=torch.float64)
    return isotropic_mixture(means, 0.6, torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64))


@dataclass(frozen=True)
class TwoMoons(PlanarDensity):
    """Two interleaving half circles of radius 1 with round Gaussian noise.

    Args:
        noise: Its standard deviation, 0.02 or more: the quadrature has 513 points on each arc.

    Raises:
        UsageError: The noise is too small for the quadrature.
    """

    noise: float = 0.1

    def __post_init__(self) -> None:
        if not self.noise >= 0.02:
            raise UsageError(f"two moons with noise={self.noise}; wanted 0.02 or more")

    @staticmethod
    def _arcs(angle: Tensor) -> Tensor:
        upper = torch.stack([angle.cos(), angle.sin()], 1)
        return torch.stack([upper, torch.tensor([1.0, 0.5], dtype=torch.float64) - upper])  # (2, n, 2)

    def log_prob(self, x: Tensor) -> Tensor:
        """log of the mean over both arcs of N(x; arc(t), noise²), t by Simpson's rule."""
        angle = torch.linspace(0, math.pi, 513, dtype=torch.float64)
        weights = torch.ones(513, dtype=torch.float64)
        weights[1:-1:2], weights[2:-1:2] = 4, 2
        weights = weights / weights.sum() / 2
        centres = self._arcs(angle).flatten(0, 1)
        scale = self.noise**2

        def part(points: Tensor) -> Tensor:
            squares = (points[:, None] - centres).square().sum(-1)
            return torch.logsumexp(weights.log().repeat(2) - squares / (2 * scale), dim=1)

        return torch.cat([part(points) for points in x.split(256)]) - math.log(2 * math.pi * scale)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n points, (n, 2)."""
        angle = math.pi * torch.rand(n, generator=generator, dtype=torch.float64)
        which = torch.randint(0, 2, (n,), generator=generator)
        noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
        return self._arcs(angle)[which, torch.arange(n)] + self.noise * noise


@dataclass(frozen=True)
class Checkerboard(PlanarDensity):
    """Uniform on the eight black squares of a 4 x 4 board on [−side, side]²."""

    side: float = 2.0

    def log_prob(self, x: Tensor) -> Tensor:
        """−log of the black area on black squares, −inf elsewhere."""
        square = ((x + self.side) / (self.side / 2)).floor()
        inside = ((square >= 0) & (square < 4)).all(1) & (square.sum(1) % 2 == 0)
        level = -math.log(2 * self.side**2)
        return torch.where(inside, level, -math.inf).double()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n points, (n, 2)."""
        column = torch.randint(0, 4, (n,), generator=generator)
        row = 2 * torch.randint(0, 2, (n,), generator=generator) + column % 2
        place = torch.rand(n, 2, generator=generator, dtype=torch.float64) + torch.stack([column, row], 1)
        return place * (self.side / 2) - self.side


@dataclass(frozen=True)
class Pinwheel(PlanarDensity):
    """Gaussians stretched along a radius, N((1, 0), diag(0.3², 0.1²)) turned to five arms, wound up by the angle `twist` · r.

    The winding turns a point by an angle that depends on its radius alone, which keeps areas: the density is exact. (The usual
    code winds by the first coordinate before turning, and that does not keep areas.)
    """

    arms: int = 5
    twist: float = 1.0

    def _spokes(self) -> Mixture:
        angle = torch.arange(self.arms, dtype=torch.float64) * (2 * math.pi / self.arms)
        turn = torch.stack([torch.stack([angle.cos(), -angle.sin()], 1), torch.stack([angle.sin(), angle.cos()], 1)], 1)
        straight = torch.diag(torch.tensor([0.3**2, 0.1**2], dtype=torch.float64))
        weights = torch.full((self.arms,), 1 / self.arms, dtype=torch.float64)
        return Mixture(weights, turn[:, :, 0], turn @ straight @ turn.transpose(1, 2))

    @staticmethod
    def _wind(x: Tensor, twist: float) -> Tensor:
        angle = twist * x.square().sum(1).sqrt()
        cos, sin = angle.cos(), angle.sin()
        return torch.stack([cos * x[:, 0] - sin * x[:, 1], sin * x[:, 0] + cos * x[:, 1]], 1)

    def log_prob(self, x: Tensor) -> Tensor:
        """log density of the unwound points."""
        return self._spokes().log_prob(self._wind(x, -self.twist))

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n points, (n, 2)."""
        return self._wind(self._spokes().sample(n, generator), self.twist)


PLANAR: dict[str, PlanarDensity] = {
    "eight_gaussians": eight_gaussians(),
    "two_moons": TwoMoons(),
    "checkerboard": Checkerboard(),
    "pinwheel": Pinwheel(),
    "three_modes": three_modes(),
}


def planar_density(name: str) -> PlanarDensity:
    """A known density by name.

    Raises:
        UsageError: The name is unknown.

    >>> round(float(planar_density("checkerboard").log_prob(torch.tensor([[0.1, 0.1]])).exp()), 6)
    0.125
    """
    if name not in PLANAR:
        raise unknown_name("planar density", name, PLANAR)
    return PLANAR[name]


def planar_points(name: str, n: int, seed: int = 0) -> np.ndarray:
    """n points of a known density, (n, 2) float64, a function of (name, n, seed)."""
    return planar_density(name).sample(n, make_generator(seed, "planar", name)).numpy()


def planar_data(name: str, sizes: tuple[int, int, int] = (10_000, 1_000, 1_000), seed: int = 0) -> DataSet:
    """A data set of a known density: points (n, 2), float32, in splits of these sizes drawn independently.

    The data are real, so that they are for densities and have no bits/dim; the levels of their space mean nothing.

    >>> planar_data("pinwheel", (50, 10, 10)).split("train").batch(slice(0, 5)).dtype
    torch.float32
    """
    points = planar_points(name, sum(sizes), seed).astype(np.float32)
    parts = np.split(points, np.cumsum(sizes)[:-1])
    splits = {split: Split(part) for split, part in zip(SPLITS, parts, strict=True)}
    return DataSet(name, Space("vector", (2,), 2), splits, licence="none needed", source=f"drawn with seed {seed}")
