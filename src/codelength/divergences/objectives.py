"""Divergences as training objectives: scalars to minimize, differentiable in the model.

What they need differs. From the model: `log_prob` (a log density, up to a constant where said), `sample` (differentiable in the
parameters: reparametrized). From the target: points x of it, its log density, or its score. Constants that do not depend on the
model are left out, and a divergence may be replaced by an increasing function of itself (the log of 1 + χ²).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from codelength.divergences.estimators import hyvarinen_terms
from codelength.divergences.kernels import Kernel
from codelength.errors import UsageError
from codelength.functional import log_mean_exp


class Sampler(Protocol):
    """What draws points (n, D), differentiable in its parameters."""

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n points."""


class Density(Sampler, Protocol):
    """What has a log density too."""

    def log_prob(self, x: Tensor) -> Tensor:
        """(n,) nats."""


LogDensity = Callable[[Tensor], Tensor]
Score = Callable[[Tensor], Tensor]


def forward_kl(log_q: LogDensity, x: Tensor) -> Tensor:
    """−E_p log q: KL(p ‖ q) up to the entropy of p. Needs data and the model's density."""
    return -log_q(x).mean()


def reverse_kl(q: Density, log_p: LogDensity, n: int, generator: torch.Generator) -> Tensor:
    """E_q [log q − log p]: KL(q ‖ p). Needs the target's log density up to a constant, no data."""
    y = q.sample(n, generator)
    return (q.log_prob(y) - log_p(y)).mean()


def jensen_shannon(q: Density, log_p: LogDensity, x: Tensor, generator: torch.Generator) -> Tensor:
    """½ E_p log(p / m) + ½ E_q log(q / m). Needs data and both densities; GANs learn the ratio instead."""

    def half(log_here: Tensor, log_there: Tensor) -> Tensor:
        return (log_here - torch.logaddexp(log_here, log_there) + math.log(2)).mean()

    y = q.sample(len(x), generator)
    return 0.5 * half(log_p(x), q.log_prob(x)) + 0.5 * half(q.log_prob(y), log_p(y))


def chi_squared(log_q: LogDensity, log_p: LogDensity, x: Tensor) -> Tensor:
    """log E_p [p / q] = log(1 + χ²(p ‖ q)) = D_2(p ‖ q). Needs data and both densities; its variance is large."""
    return log_mean_exp(log_p(x) - log_q(x))


def reverse_chi_squared(q: Density, log_p: LogDensity, n: int, generator: torch.Generator) -> Tensor:
    """log E_q [q / p] = log(1 + χ²(q ‖ p)). Needs the target's log density up to a constant."""
    y = q.sample(n, generator)
    return log_mean_exp(q.log_prob(y) - log_p(y))


def renyi(q: Density, log_p: LogDensity, alpha: float, n: int, generator: torch.Generator) -> Tensor:
    """D_α(q ‖ p) = log E_q [(q / p)^(α−1)] / (α − 1), up to p's constant: the variational Rényi bound's gap.

    Raises:
        UsageError: alpha is 1 (use `reverse_kl`) or not positive.

    Reference: Li and Turner, arXiv:1602.02311, eq. (9).
    """
    if alpha == 1 or not alpha > 0:
        raise UsageError(f"alpha={alpha}; wanted a positive order other than 1 (1 is reverse_kl)")
    y = q.sample(n, generator)
    return log_mean_exp((alpha - 1) * (q.log_prob(y) - log_p(y))) / (alpha - 1)


def bregman_squared(q: Density, x: Tensor, generator: torch.Generator) -> Tensor:
    """∫ q² − 2 E_p q: ∫ (p − q)² up to ∫ p². Needs data and the model's density; robust to outliers.

    Reference: Scott, Technometrics 43, 2001 (L2E); Basu et al., Biometrika 85, 1998, at β = 1.
    """
    y = q.sample(len(x), generator)
    return q.log_prob(y).exp().mean() - 2 * q.log_prob(x).exp().mean()


def score_matching(score_q: Score, x: Tensor) -> Tensor:
    """E_p [½ |s|² + ∇·s]: the score divergence up to a constant. Needs data; the model may be unnormalized."""
    return hyvarinen_terms(score_q, x).mean()


def stein_discrepancy(x: Tensor, score_at_x: Tensor, kernel: Kernel) -> Tensor:
    """KSD² of points against a score, an unbiased U-statistic.

    Both ways train: points of the model against the target's score (then it needs no density of the model), or data against
    the score of a model that may be unnormalized.
    """
    n = len(x)
    u = kernel.stein(x, x, score_at_x, score_at_x)
    return (u.sum() - u.diagonal().sum()) / (n * (n - 1))


def mmd_squared(x: Tensor, y: Tensor, kernel: Kernel) -> Tensor:
    """MMD² of data x and points y of the model, an unbiased U-statistic. The model needs `sample` alone."""
    n, m = len(x), len(y)
    xx, yy = kernel(x, x), kernel(y, y)
    inside = (xx.sum() - xx.diagonal().sum()) / (n * (n - 1)) + (yy.sum() - yy.diagonal().sum()) / (m * (m - 1))
    return inside - 2 * kernel(x, y).mean()


@dataclass(frozen=True)
class LangevinStein:
    """The operator variational objective with the Langevin-Stein operator: sup_f (E_q [∇ log p · f + ∇·f])².

    E_p of the operator is 0 for every test function f, so that the objective is 0 at q = p. The model needs `sample` alone, the
    target its score. f is trained to raise what the model lowers; both see `value`.

    Args:
        test_function: (n, D) -> (n, D), differentiable.
        score_p: ∇ log p.

    Reference: Ranganath et al., Operator Variational Inference, arXiv:1610.09033, eqs. (4), (6). Departure: the test
    function is held down by a penalty on E |f|² in `loss_of_test_function` rather than by its architecture.
    """

    test_function: Callable[[Tensor], Tensor]
    score_p: Score

    def operator(self, y: Tensor) -> Tensor:
        """(O f)(y) = ∇ log p(y) · f(y) + ∇·f(y) of points (n, D), (n,)."""
        with torch.enable_grad():
            points = y if y.requires_grad else y.detach().requires_grad_()
            f = self.test_function(points)
            divergence = torch.zeros_like(f[:, 0])
            for d in range(y.shape[1]):
                (row,) = torch.autograd.grad(f[:, d].sum(), points, create_graph=True)
                divergence = divergence + row[:, d]
            return (self.score_p(points) * f).sum(1) + divergence

    def value(self, y: Tensor) -> Tensor:
        """(E_q O f)², from two independent halves of the points, so that the square is unbiased."""
        halves = self.operator(y).chunk(2)
        return halves[0].mean() * halves[1].mean()

    def loss_of_test_function(self, y: Tensor, penalty: float = 0.5) -> Tensor:
        """What the test function minimizes: −E_q O f + penalty · E |f|², whose optimum is f ∝ ∇ log p − ∇ log q."""
        y = y.detach()
        return -self.operator(y).mean() + penalty * self.test_function(y).square().sum(1).mean()
