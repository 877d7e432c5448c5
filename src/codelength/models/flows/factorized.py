"""Factorized densities with known bin masses: uniform, logistic, Gaussian. Their dequantization gap is known.

p(y) = Π_i p_i(y_i) over reals of an integer space. `Discretized` integrates them exactly, `Dequantized` bounds them:
the difference of the two is the gap of the dequantization bound.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from codelength import randomness
from codelength.functional import log1mexp
from codelength.models.base import LikelihoodModel
from codelength.randomness import Noise
from codelength.space import Space


class FactorizedDensity(LikelihoodModel, ABC):
    """Independent dims: subclasses give elementwise densities and interval masses."""

    def __init__(self, space: Space) -> None:
        super().__init__(space, "density")

    @abstractmethod
    def log_prob_per_dim(self, y: Tensor) -> Tensor:
        """log p_i(y_i), nats, of y's shape (B, ...)."""

    @abstractmethod
    def cdf(self, y: Tensor) -> Tensor:
        """P(Y_i <= y_i), of y's shape."""

    @abstractmethod
    def log_interval_mass(self, low: Tensor, high: Tensor) -> Tensor:
        """log P(low_i < Y_i < high_i), nats, without cancellation; the ends may be infinite."""

    @abstractmethod
    def quantile(self, u: Tensor) -> Tensor:
        """The y with P(Y_i <= y_i) = u_i, for u in (0, 1), of u's shape (B, ...)."""

    def log_prob(self, y: Tensor) -> Tensor:
        """log p(y), nats, (B,), of reals y, (B, ...)."""
        return self.log_prob_per_dim(y).flatten(1).sum(1)

    @torch.no_grad()
    def sample(self, n: int, generator: Noise) -> Tensor:
        """Draw n reals by inversion, (n, *shape)."""
        u = randomness.uniform((n, *self.space.sizes), generator, device=self.device, dtype=torch.float64)
        return self.quantile(u.clamp(min=2.0**-54)).to(self.dtype)


class UniformDensity(FactorizedDensity):
    """Uniform on [offset, offset + levels)^D: dequantized it costs log2(levels) bits/dim, exactly."""

    def log_prob_per_dim(self, y: Tensor) -> Tensor:
        inside = (y >= self.space.offset) & (y < self.space.offset + self.space.levels)
        return torch.where(inside, -math.log(self.space.levels), -math.inf).to(y.dtype)

    def cdf(self, y: Tensor) -> Tensor:
        return ((y - self.space.offset) / self.space.levels).clamp(0, 1)

    def log_interval_mass(self, low: Tensor, high: Tensor) -> Tensor:
        return torch.log(self.cdf(high) - self.cdf(low))

    def quantile(self, u: Tensor) -> Tensor:
        return self.space.offset + self.space.levels * u


class _LocationScale(FactorizedDensity):
    """Trainable location and scale of each dim, or shared where they are given so.

    Args:
        space: What the data are; the density is over the reals.
        loc: Location, in levels: a number, or a tensor that broadcasts to (*shape).
        scale: Scale, in levels, positive.
    """

    def __init__(self, space: Space, loc: float | Tensor, scale: float | Tensor) -> None:
        super().__init__(space)
        scale = torch.as_tensor(scale)
        if not bool((scale > 0).all()):
            raise ValueError(f"{type(self).__name__}: scale {scale.min().item()}; wanted positive, in levels")
        default = torch.get_default_dtype()
        self.loc = nn.Parameter(torch.as_tensor(loc).clone().to(default))
        self.log_scale = nn.Parameter(scale.to(default).log())

    def _standard(self, y: Tensor) -> Tensor:
        # An infinite end stays out of the arithmetic: 0 * inf would make the gradients NaN.
        finite = y.isfinite()
        standard = (torch.where(finite, y, torch.zeros_like(y)) - self.loc) * torch.exp(-self.log_scale)
        return torch.where(finite, standard, y)

    def quantile(self, u: Tensor) -> Tensor:
        return self.loc + self.log_scale.exp() * self._standard_quantile(u)

    @abstractmethod
    def _standard_quantile(self, u: Tensor) -> Tensor: ...


class FactorizedLogistic(_LocationScale):
    """Logistic dims: p(y) = σ(t) σ(−t) / s with t = (y − loc) / s."""

    def log_prob_per_dim(self, y: Tensor) -> Tensor:
        t = self._standard(y)
        return logsigmoid(t) + logsigmoid(-t) - self.log_scale

    def cdf(self, y: Tensor) -> Tensor:
        return torch.sigmoid(self._standard(y))

    def log_interval_mass(self, low: Tensor, high: Tensor) -> Tensor:
        # σ(b) − σ(a) = σ(b) σ(−a) (1 − exp(−(b − a))): no factor cancels, as in functional.discretized_logistic.
        a, b = self._standard(low), self._standard(high)
        return logsigmoid(b) + logsigmoid(-a) + log1mexp(b - a)

    def _standard_quantile(self, u: Tensor) -> Tensor:
        return torch.logit(u)


class FactorizedGaussian(_LocationScale):
    """Gaussian dims: N(loc, scale^2)."""

    def log_prob_per_dim(self, y: Tensor) -> Tensor:
        return -0.5 * self._standard(y) ** 2 - self.log_scale - 0.5 * math.log(2 * math.pi)

    def cdf(self, y: Tensor) -> Tensor:
        return torch.special.ndtr(self._standard(y))

    def log_interval_mass(self, low: Tensor, high: Tensor) -> Tensor:
        a, b = self._standard(low), self._standard(high)
        # Φ(b) − Φ(a) = Φ(−a) − Φ(−b): in the upper tail take the side where Φ is small.
        upper = a > 0
        a, b = torch.where(upper, -b, a), torch.where(upper, -a, b)
        log_b = torch.special.log_ndtr(b)
        return log_b + log1mexp(log_b - torch.special.log_ndtr(a))

    def _standard_quantile(self, u: Tensor) -> Tensor:
        return torch.special.ndtri(u)
