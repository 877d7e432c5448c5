"""Monte-Carlo estimates of divergences, each with its standard error.

Densities enter as log densities at points, nats, (n,), float64; "log_p_at_q" are those of p at n independent points of q.
Estimates are unbiased unless they say otherwise; reverse divergences are the same functions with p and q exchanged.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from codelength.divergences.kernels import Kernel
from codelength.divergences.tables import Generator, GeneratorName, bregman_terms, check_order
from codelength.errors import UsageError, unknown_name

MMDForm = Literal["unbiased", "biased", "linear"]


@dataclass(frozen=True)
class Estimate:
    """An estimate with its standard error.

    Args:
        value: The estimate.
        standard_error: Its standard error, of order 1/√n.
    """

    value: float
    standard_error: float


def _mean(values: Tensor) -> Estimate:
    if values.ndim != 1 or len(values) < 2:
        raise UsageError(f"values of shape {tuple(values.shape)}; wanted one a point, 2 points or more")
    values = values.double()
    return Estimate(float(values.mean()), float(values.std() / math.sqrt(len(values))))


def kl(log_p_at_p: Tensor, log_q_at_p: Tensor) -> Estimate:
    """KL(p ‖ q) = E_p log(p / q), nats. Without log p its first half is unknown, but the same for every q."""
    return _mean(log_p_at_p - log_q_at_p)


def jensen_shannon(log_p_at_p: Tensor, log_q_at_p: Tensor, log_p_at_q: Tensor, log_q_at_q: Tensor) -> Estimate:
    """½ E_p log(p / m) + ½ E_q log(q / m), nats; every term is at most ln 2."""
    first = _mean(log_p_at_p - _log_middle(log_p_at_p, log_q_at_p))
    second = _mean(log_q_at_q - _log_middle(log_p_at_q, log_q_at_q))
    return Estimate((first.value + second.value) / 2, math.hypot(first.standard_error, second.standard_error) / 2)


def _log_middle(log_p: Tensor, log_q: Tensor) -> Tensor:
    return torch.logaddexp(log_p, log_q) - math.log(2)


def chi_squared(log_p_at_q: Tensor, log_q_at_q: Tensor) -> Estimate:
    """χ²(p ‖ q) = E_q (p / q − 1)². Where its true value is infinite, so is the variance: the error then means nothing."""
    return _mean(torch.expm1(log_p_at_q - log_q_at_q) ** 2)


def amari(log_p_at_q: Tensor, log_q_at_q: Tensor, alpha: float) -> Estimate:
    """Amari's (E_q (p / q)^α − 1) / (α (α − 1)).

    Raises:
        UsageError: alpha is 0 or 1: estimate a KL.
    """
    if alpha in (0, 1):
        raise UsageError(f"alpha={alpha} is a KL divergence; estimate it by kl")
    return _mean(torch.expm1(alpha * (log_p_at_q - log_q_at_q)) / (alpha * (alpha - 1)))


def renyi(log_p_at_q: Tensor, log_q_at_q: Tensor, alpha: float) -> Estimate:
    """Rényi's log(E_q (p / q)^α) / (α − 1), nats. Consistent, with a bias of order 1/n; error by the delta method.

    Raises:
        UsageError: alpha is not positive, or 1: estimate a KL.
    """
    check_order(alpha)
    if alpha == 1:
        raise UsageError("alpha=1 is a KL divergence; estimate it by kl")
    log_powers = alpha * (log_p_at_q - log_q_at_q).double()
    top = log_powers.max()
    powers = _mean((log_powers - top).exp())
    value = (math.log(powers.value) + float(top)) / (alpha - 1)
    return Estimate(value, powers.standard_error / powers.value / abs(alpha - 1))


def bregman(log_p_at_q: Tensor, log_q_at_q: Tensor, generator: GeneratorName | Generator = "squared") -> Estimate:
    """∫ F(p) − F(q) − F'(q) (p − q) dx = E_q of that over q; see `tables.bregman_terms` for the generator."""
    p, q = log_p_at_q.double().exp(), log_q_at_q.double().exp()
    return _mean(bregman_terms(p, q, generator) / q)


def fisher(score_p_at_p: Tensor, score_q_at_p: Tensor) -> Estimate:
    """½ E_p |∇ log p − ∇ log q|² from scores at points of p, (n, D). Blind to weights of modes far apart."""
    return _mean(0.5 * (score_p_at_p - score_q_at_p).square().sum(1))


def hyvarinen(score_q: Callable[[Tensor], Tensor], x: Tensor) -> Estimate:
    """E_p [½ |s|² + ∇·s], s = ∇ log q at points x of p, (n, D): the score divergence up to a constant of p.

    Reference: Hyvärinen, JMLR 6, 2005, theorem 1.
    """
    return _mean(hyvarinen_terms(score_q, x).detach())


def hyvarinen_terms(score_q: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """½ |s(x)|² + ∇·s(x) of each point, (n,), differentiable in the score's parameters. Costs D + 1 passes."""
    with torch.enable_grad():
        points = x.detach().requires_grad_()
        s = score_q(points)
        divergence = torch.zeros_like(s[:, 0])
        for d in range(x.shape[1]):
            if s.requires_grad:
                (row,) = torch.autograd.grad(s[:, d].sum(), points, create_graph=True, allow_unused=True)
                divergence = divergence if row is None else divergence + row[:, d]
    return 0.5 * s.square().sum(1) + divergence


def mmd_squared(x: Tensor, y: Tensor, kernel: Kernel, form: MMDForm = "unbiased") -> Estimate:
    """MMD² of points x, (n, D), and y, (m, D).

    Args:
        x, y: Independent points.
        kernel: The kernel; by the median rule `GaussianKernel(median_bandwidth(x, y))`.
        form: "unbiased" (a U-statistic; may be negative), "biased" (a V-statistic; the distance of the empirical embeddings),
            "linear": means over disjoint pairs, cost O(n), higher variance; n and m are then equal.

    Raises:
        UsageError: The form is unknown, or the points do not suffice.

    Reference: Gretton et al., JMLR 13, 2012, eqs. (3), (5) and section 6. The error of the first two is the square root of the
    U-statistic's variance, its first two orders (the same, section 5), so that it holds where p = q too.
    """
    n, m = len(x), len(y)
    if form not in ("unbiased", "biased", "linear"):
        raise unknown_name("form of MMD", form, ("unbiased", "biased", "linear"))
    if min(n, m) < 4 or (form == "linear" and n != m):
        raise UsageError(f"MMD ({form}) of {n} and {m} points; wanted 4 or more of each, as many of both for 'linear'")
    if form == "linear":
        pairs = n // 2
        a, b, c, d = x[0 : 2 * pairs : 2], x[1 : 2 * pairs : 2], y[0 : 2 * pairs : 2], y[1 : 2 * pairs : 2]
        near = _paired(kernel, a, b) + _paired(kernel, c, d)
        return _mean(near - _paired(kernel, a, d) - _paired(kernel, b, c))
    xx, yy, xy = kernel(x, x).double(), kernel(y, y).double(), kernel(x, y).double()
    inside_x, inside_y = _without_diagonal(xx).sum(), _without_diagonal(yy).sum()
    if form == "unbiased":
        value = inside_x / (n * (n - 1)) + inside_y / (m * (m - 1)) - 2 * xy.mean()
    else:
        value = xx.mean() + yy.mean() - 2 * xy.mean()
    return Estimate(float(value), math.sqrt(_mmd_variance(xx, yy, xy)))


def _paired(kernel: Kernel, x: Tensor, y: Tensor) -> Tensor:
    """k(x_i, y_i), (n,), in blocks, so that the cost stays linear."""
    return torch.cat([kernel(a, b).diagonal() for a, b in zip(x.split(16), y.split(16), strict=True)]).double()


def _without_diagonal(matrix: Tensor) -> Tensor:
    return matrix - torch.diag(matrix.diagonal())


def _mmd_variance(xx: Tensor, yy: Tensor, xy: Tensor) -> float:
    n, m = xy.shape
    of_x = 2 * (_without_diagonal(xx).sum(1) / (n - 1) - xy.mean(1))
    of_y = 2 * (_without_diagonal(yy).sum(1) / (m - 1) - xy.mean(0))
    second = (
        2 * _pair_variance(xx) / (n * (n - 1))
        + 2 * _pair_variance(yy) / (m * (m - 1))
        + 4 * _centred_variance(xy) / (n * m)
    )
    # The row means are noisy themselves: of their variance, that of a mean over the other points is no part of the first order.
    noise_x = 4 * (_pair_variance(xx) / (n - 1) + _centred_variance(xy) / m)
    noise_y = 4 * (_pair_variance(yy) / (m - 1) + _centred_variance(xy) / n)
    first = max(float(of_x.var() - noise_x), 0.0) / n + max(float(of_y.var() - noise_y), 0.0) / m
    return first + float(second)


def _centred_variance(matrix: Tensor) -> Tensor:
    """Variance of what rows and columns do not explain."""
    centred = matrix - matrix.mean(0) - matrix.mean(1)[:, None] + matrix.mean()
    return centred.square().mean()


def _pair_variance(matrix: Tensor) -> Tensor:
    """As `_centred_variance`, of the pairs of different points of a symmetric matrix."""
    n = len(matrix)
    off = _without_diagonal(matrix)
    rows, total = off.sum(1) / (n - 1), off.sum() / (n * (n - 1))
    centred = _without_diagonal(off - rows - rows[:, None] + total)
    return centred.square().sum() / (n * (n - 1))


def ksd_squared(x: Tensor, score_p_at_x: Tensor, kernel: Kernel) -> Estimate:
    """KSD² of points x of q, (n, D), against a model p known by its score there, (n, D): no normalizing constant is needed.

    An unbiased U-statistic, so it may be negative. Blind to weights of modes that are far apart.

    Reference: Liu et al., arXiv:1602.03253, eq. (14).
    """
    n = len(x)
    if n < 4 or score_p_at_x.shape != x.shape:
        raise UsageError(
            f"KSD of points {tuple(x.shape)} and scores {tuple(score_p_at_x.shape)}; wanted (n, D), n >= 4"
        )
    u = kernel.stein(x, x, score_p_at_x, score_p_at_x).double()
    off = _without_diagonal(u)
    rows = off.sum(1) / (n - 1)
    pair = _pair_variance(u)
    first = max(float(4 * (rows.var() - pair / (n - 1))), 0.0) / n
    return Estimate(float(off.sum() / (n * (n - 1))), math.sqrt(first + float(2 * pair / (n * (n - 1)))))
