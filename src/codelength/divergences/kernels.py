"""Kernels k(x, y) of points in R^D, with what Stein's identity needs of them.

For a score s = ∇ log p, the Stein kernel of k is

    u(x, y) = s(x)·s(y) k + s(x)·∇_y k + s(y)·∇_x k + tr ∇_x ∇_y k,

whose mean over x ~ p is 0 for every y (Liu et al., arXiv:1602.03253, definition 3.1; Chwialkowski et al., arXiv:1602.02964).
A characteristic kernel tells any two distributions apart; a polynomial kernel of degree d sees moments up to order d only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from codelength.errors import UsageError


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i − y_j|² of (n, D) and (m, D): (n, m), never negative.

    Raises:
        UsageError: The points are no matrices of one width.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise UsageError(f"points {tuple(x.shape)} and {tuple(y.shape)}; wanted (n, D) and (m, D)")
    squares = x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T
    return squares.clamp(min=0)


def median_bandwidth(x: Tensor, y: Tensor | None = None, *, most: int = 1000) -> float:
    """The median rule: median distance between different points of x and y together.

    Args:
        x, y: (n, D), (m, D).
        most: Evenly spaced points of the pool that are compared, at most so many.

    Raises:
        UsageError: There are fewer than two points, or more than half of the pairs coincide.

    Reference: Gretton et al., A Kernel Two-Sample Test, JMLR 13, 2012, section 8.
    """
    pool = x if y is None else torch.cat([x, y])
    pool = pool[:: max(1, -(-len(pool) // most))].detach()
    if len(pool) < 2:
        raise UsageError(f"median bandwidth of {len(pool)} points; wanted 2 or more")
    rows, columns = torch.triu_indices(len(pool), len(pool), 1)
    width = float(squared_distances(pool, pool)[rows, columns].median().sqrt())
    if not width > 0:
        raise UsageError("the median distance is 0: more than half of the points coincide; give a bandwidth yourself")
    return width


class Kernel(ABC):
    """A positive definite kernel."""

    @abstractmethod
    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """k(x_i, y_j), (n, m)."""

    @abstractmethod
    def stein(self, x: Tensor, y: Tensor, score_x: Tensor, score_y: Tensor) -> Tensor:
        """u(x_i, y_j), (n, m), of points (n, D), (m, D) and the model's scores there."""


class RadialKernel(Kernel):
    """k = f(|x − y|²)."""

    @abstractmethod
    def profile(self, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """f(s), f'(s), f''(s) of squared distances."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """k(x_i, y_j), (n, m)."""
        return self.profile(squared_distances(x, y))[0]

    def stein(self, x: Tensor, y: Tensor, score_x: Tensor, score_y: Tensor) -> Tensor:
        """u(x_i, y_j): with r = x − y, ∇_x k = 2 f' r, ∇_y k = −2 f' r, tr ∇_x ∇_y k = −2 D f' − 4 f'' |r|²."""
        s = squared_distances(x, y)
        f, df, ddf = self.profile(s)
        along_x = (score_x * x).sum(1)[:, None] - score_x @ y.T  # s(x_i)·(x_i − y_j)
        along_y = x @ score_y.T - (score_y * y).sum(1)  # s(y_j)·(x_i − y_j)
        return (score_x @ score_y.T) * f + 2 * df * (along_y - along_x) - 2 * x.shape[1] * df - 4 * ddf * s


@dataclass(frozen=True)
class GaussianKernel(RadialKernel):
    """exp(−|x − y|² / (2 bandwidth²)): characteristic."""

    bandwidth: float

    def profile(self, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """f(s), f'(s), f''(s)."""
        c = -0.5 / self.bandwidth**2
        f = torch.exp(c * s)
        return f, c * f, c * c * f


@dataclass(frozen=True)
class InverseMultiquadric(RadialKernel):
    """(1 + |x − y|² / bandwidth²)^exponent, exponent in (−1, 0): characteristic, with tails that keep far points in sight.

    Its Stein discrepancy controls weak convergence, which a Gaussian kernel's does not beyond two dims.

    Reference: Gorham and Mackey, arXiv:1703.01717, theorem 8.
    """

    bandwidth: float
    exponent: float = -0.5

    def profile(self, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """f(s), f'(s), f''(s)."""
        base, b, w = 1 + s / self.bandwidth**2, self.exponent, self.bandwidth**2
        return base**b, b / w * base ** (b - 1), b * (b - 1) / w**2 * base ** (b - 2)


@dataclass(frozen=True)
class PolynomialKernel(Kernel):
    """(x·y + constant)^degree: not characteristic, sees moments up to `degree` only."""

    degree: int
    constant: float = 1.0

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """k(x_i, y_j), (n, m)."""
        return (x @ y.T + self.constant) ** self.degree

    def stein(self, x: Tensor, y: Tensor, score_x: Tensor, score_y: Tensor) -> Tensor:
        """u(x_i, y_j): ∇_x k = d (x·y + c)^(d−1) y, tr ∇_x ∇_y k = d D (x·y + c)^(d−1) + d (d − 1) (x·y + c)^(d−2) x·y."""
        d, inner = self.degree, x @ y.T
        base = inner + self.constant
        slope = d * base ** (d - 1)
        curve = d * (d - 1) * base ** (d - 2) * inner if d > 1 else torch.zeros_like(inner)
        across = (score_x * x).sum(1)[:, None] + (score_y * y).sum(1)
        return (score_x @ score_y.T) * base**d + slope * across + slope * x.shape[1] + curve
