"""Exact divergences of two Gaussians, in closed form; Jensen-Shannon, which has none, by quadrature.

All results are float64 and differentiable in the moments. Sources: Gil et al., Information Sciences 249, 2013 (KL, Rényi);
Gretton et al., JMLR 13, 2012 (MMD); Hyvärinen, JMLR 6, 2005 (score divergence); the kernelized Stein discrepancy is derived below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from codelength.divergences.kernels import GaussianKernel
from codelength.divergences.tables import check_order
from codelength.errors import UsageError

QUADRATURE_POINTS = 401
QUADRATURE_REACH = 10.0  # standard deviations


@dataclass(frozen=True)
class Gaussian:
    """N(mean, covariance).

    Args:
        mean: (D,).
        covariance: (D, D), positive definite.

    Raises:
        UsageError: The shapes differ, or the covariance is not positive definite.
    """

    mean: Tensor
    covariance: Tensor

    def __post_init__(self) -> None:
        size = len(self.mean)
        if self.mean.ndim != 1 or self.covariance.shape != (size, size):
            raise UsageError(
                f"Gaussian: mean {tuple(self.mean.shape)}, covariance {tuple(self.covariance.shape)}; wanted (D,), (D, D)"
            )
        if int(torch.linalg.cholesky_ex(self.covariance.detach()).info):
            raise UsageError("Gaussian: the covariance is not positive definite")

    @staticmethod
    def standard(dims: int) -> Gaussian:
        """N(0, I)."""
        return Gaussian(torch.zeros(dims, dtype=torch.float64), torch.eye(dims, dtype=torch.float64))

    def log_prob(self, x: Tensor) -> Tensor:
        """log density, nats, of (n, D)."""
        factor = torch.linalg.cholesky(self.covariance)
        whitened = torch.linalg.solve_triangular(factor, (x - self.mean).T, upper=False)
        return (
            -0.5 * whitened.square().sum(0)
            - factor.diagonal().log().sum()
            - 0.5 * len(self.mean) * math.log(2 * math.pi)
        )

    def score(self, x: Tensor) -> Tensor:
        """∇ log density at (n, D)."""
        return -torch.linalg.solve(self.covariance, (x - self.mean).T).T

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n points, (n, D), differentiable in the moments."""
        noise = torch.randn(n, len(self.mean), generator=generator, dtype=self.mean.dtype)
        return self.mean + noise @ torch.linalg.cholesky(self.covariance).T

    def entropy(self) -> Tensor:
        """½ log |2 π e Σ|, nats."""
        return 0.5 * (torch.logdet(self.covariance) + len(self.mean) * math.log(2 * math.pi * math.e))


def kl(p: Gaussian, q: Gaussian) -> Tensor:
    """KL(p ‖ q), nats."""
    shift = q.mean - p.mean
    trace = torch.linalg.solve(q.covariance, p.covariance).trace()
    away = shift @ torch.linalg.solve(q.covariance, shift)
    return 0.5 * (trace + away - len(shift) + torch.logdet(q.covariance) - torch.logdet(p.covariance))


def renyi(p: Gaussian, q: Gaussian, alpha: float) -> Tensor:
    """Rényi's D_α(p ‖ q), nats; infinite where α Σ_q + (1 − α) Σ_p is not positive definite.

    Raises:
        UsageError: alpha is not positive.
    """
    check_order(alpha)
    if alpha == 1:
        return kl(p, q)
    mixed = alpha * q.covariance + (1 - alpha) * p.covariance
    if int(torch.linalg.cholesky_ex(mixed.detach()).info):
        return torch.tensor(math.inf, dtype=torch.float64)
    shift = q.mean - p.mean
    volume = torch.logdet(mixed) - (1 - alpha) * torch.logdet(p.covariance) - alpha * torch.logdet(q.covariance)
    return 0.5 * alpha * shift @ torch.linalg.solve(mixed, shift) - volume / (2 * (alpha - 1))


def amari(p: Gaussian, q: Gaussian, alpha: float) -> Tensor:
    """Amari's divergence of order alpha > 0, and KL(q ‖ p) at 0."""
    if alpha in (0, 1):
        return kl(p, q) if alpha == 1 else kl(q, p)
    return torch.expm1((alpha - 1) * renyi(p, q, alpha)) / (alpha * (alpha - 1))


def chi_squared(p: Gaussian, q: Gaussian) -> Tensor:
    """χ²(p ‖ q) = exp(D_2(p ‖ q)) − 1."""
    return torch.expm1(renyi(p, q, 2.0))


def jensen_shannon(p: Gaussian, q: Gaussian) -> Tensor:
    """Jensen-Shannon, nats, by quadrature on 401 points a dim that reach 10 standard deviations.

    Raises:
        UsageError: There are more than two dims; estimate it from samples instead.
    """
    dims = len(p.mean)
    if dims > 2:
        raise UsageError(f"Jensen-Shannon of Gaussians by quadrature of {dims} dims; wanted 1 or 2: use an estimator")
    axes, cell = [], 1.0
    for d in range(dims):
        spread = [(float(g.mean[d]), QUADRATURE_REACH * float(g.covariance[d, d].sqrt())) for g in (p, q)]
        low, high = min(m - s for m, s in spread), max(m + s for m, s in spread)
        axes.append(torch.linspace(low, high, QUADRATURE_POINTS, dtype=torch.float64))
        cell *= (high - low) / (QUADRATURE_POINTS - 1)
    x = torch.cartesian_prod(*axes).reshape(-1, dims)
    log_p, log_q = p.log_prob(x), q.log_prob(x)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return 0.5 * cell * (log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)).sum()


def bregman_squared(p: Gaussian, q: Gaussian) -> Tensor:
    """∫ (p − q)² dx: Bregman's divergence of the densities with the generator t²."""
    return _overlap(p, p) - 2 * _overlap(p, q) + _overlap(q, q)


def _overlap(p: Gaussian, q: Gaussian) -> Tensor:
    """∫ p q dx = N(mean_p − mean_q; 0, Σ_p + Σ_q)."""
    return Gaussian(q.mean, p.covariance + q.covariance).log_prob(p.mean[None])[0].exp()


def fisher(p: Gaussian, q: Gaussian) -> Tensor:
    """Score divergence ½ E_p |∇ log p − ∇ log q|²: the scores differ by a linear function A x + b."""
    slope = torch.linalg.inv(q.covariance) - torch.linalg.inv(p.covariance)
    at_mean = torch.linalg.solve(q.covariance, p.mean - q.mean)
    return 0.5 * ((slope @ p.covariance @ slope).trace() + at_mean @ at_mean)


def mmd_squared(p: Gaussian, q: Gaussian, kernel: GaussianKernel) -> Tensor:
    """MMD² with a Gaussian kernel: E k(x, x') = (2 π h²)^(D/2) ∫∫ N(x − x'; 0, h² I), an overlap of widened Gaussians."""

    def mean_kernel(a: Gaussian, b: Gaussian) -> Tensor:
        h2 = kernel.bandwidth**2
        widened = Gaussian(a.mean, a.covariance + h2 * torch.eye(len(a.mean), dtype=a.mean.dtype))
        return (2 * math.pi * h2) ** (len(a.mean) / 2) * _overlap(widened, b)

    return mean_kernel(p, p) - 2 * mean_kernel(p, q) + mean_kernel(q, q)


def ksd_squared(q: Gaussian, p: Gaussian, kernel: GaussianKernel) -> Tensor:
    """KSD² of points x ~ q against the score of p: E k(x, x') δ(x)·δ(x'), δ = ∇ log p − ∇ log q (arXiv:1602.03253, theorem 3.6).

    δ(x) = A x + b. Under q × q times k / E k the pair (x, x') is Gaussian again: its sum keeps the moments it had, its
    difference has the covariance V = (Σ⁻¹ / 2 + I / h²)⁻¹. So Cov(x, x') = (2 Σ − V) / 4, and both means stay.
    """
    dims, h2 = len(p.mean), kernel.bandwidth**2
    identity = torch.eye(dims, dtype=q.mean.dtype)
    inverse = torch.linalg.inv(q.covariance)
    slope = inverse - torch.linalg.inv(p.covariance)
    at_mean = -torch.linalg.solve(p.covariance, q.mean - p.mean)
    spread = torch.linalg.inv(inverse / 2 + identity / h2)
    cross = (2 * q.covariance - spread) / 4
    mean_kernel = torch.linalg.det(identity + 2 * q.covariance / h2) ** -0.5
    return mean_kernel * ((slope @ cross @ slope.T).trace() + at_mean @ at_mean)


def frechet_squared(p: Gaussian, q: Gaussian) -> Tensor:
    """|m_p − m_q|² + tr(Σ_p + Σ_q − 2 (Σ_p^½ Σ_q Σ_p^½)^½): 2-Wasserstein of Gaussians (Dowson and Landau 1982).

    Of anything else it compares the first two moments only: 0 does not mean equal.
    """
    root = _square_root(p.covariance)
    middle = _square_root(root @ q.covariance @ root)
    return (p.mean - q.mean).square().sum() + (p.covariance + q.covariance - 2 * middle).trace()


def _square_root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def moments(x: Tensor) -> Gaussian:
    """The Gaussian with the mean and the unbiased covariance of points (n, D)."""
    return Gaussian(x.mean(0), torch.cov(x.T).reshape(x.shape[1], x.shape[1]))
