"""Estimates: right on average, with standard errors that are the spread of repetitions and fall as 1/√n; blind spots."""

import math

import pytest
import torch

from codelength.divergences import (
    Gaussian,
    GaussianKernel,
    InverseMultiquadric,
    PolynomialKernel,
    estimators,
    gaussians,
    median_bandwidth,
    planar_density,
    tables,
)
from codelength.divergences.planar import isotropic_mixture
from codelength.errors import UsageError

P = Gaussian(torch.tensor([0.3, 0.0], dtype=torch.float64), torch.tensor([[1.0, 0.2], [0.2, 0.8]], dtype=torch.float64))
Q = Gaussian(torch.tensor([0.0, 0.4], dtype=torch.float64), 1.2 * torch.eye(2, dtype=torch.float64))
KERNEL = GaussianKernel(1.0)


def draws(n, seed):
    generator = torch.Generator().manual_seed(seed)
    return P.sample(n, generator), Q.sample(n, generator)


def densities(x, y):
    return P.log_prob(x), Q.log_prob(x), P.log_prob(y), Q.log_prob(y)


ESTIMATES = {
    "kl": (lambda x, y: estimators.kl(*densities(x, y)[:2]), lambda: gaussians.kl(P, Q)),
    "reverse_kl": (lambda x, y: estimators.kl(*densities(x, y)[:1:-1]), lambda: gaussians.kl(Q, P)),
    "jensen_shannon": (
        lambda x, y: estimators.jensen_shannon(*densities(x, y)),
        lambda: gaussians.jensen_shannon(P, Q),
    ),
    "chi_squared": (lambda x, y: estimators.chi_squared(*densities(x, y)[2:]), lambda: gaussians.chi_squared(P, Q)),
    "renyi": (lambda x, y: estimators.renyi(*densities(x, y)[2:], 0.5), lambda: gaussians.renyi(P, Q, 0.5)),
    "amari": (lambda x, y: estimators.amari(*densities(x, y)[2:], 0.5), lambda: gaussians.amari(P, Q, 0.5)),
    "bregman": (lambda x, y: estimators.bregman(*densities(x, y)[2:]), lambda: gaussians.bregman_squared(P, Q)),
    "fisher": (lambda x, y: estimators.fisher(P.score(x), Q.score(x)), lambda: gaussians.fisher(P, Q)),
    "mmd_unbiased": (
        lambda x, y: estimators.mmd_squared(x, y, KERNEL),
        lambda: gaussians.mmd_squared(P, Q, KERNEL),
    ),
    "mmd_linear": (
        lambda x, y: estimators.mmd_squared(x, y, KERNEL, "linear"),
        lambda: gaussians.mmd_squared(P, Q, KERNEL),
    ),
    "ksd": (
        lambda x, y: estimators.ksd_squared(x, Q.score(x), KERNEL),
        lambda: gaussians.ksd_squared(P, Q, KERNEL),
    ),
}


@pytest.mark.parametrize("name", ESTIMATES)
def test_estimates_are_right_and_their_errors_are_the_spread_of_repetitions(name):
    estimate, exact = ESTIMATES[name]
    n, repetitions = 200, 120
    found = [estimate(*draws(n, seed)) for seed in range(repetitions)]
    values = torch.tensor([e.value for e in found])
    spread = float(values.std())
    assert abs(float(values.mean()) - float(exact())) < 4 * spread / math.sqrt(repetitions)
    # The standard deviation of 120 repetitions is known to 6.5%; heavy tails of ratios widen it.
    assert float(torch.tensor([e.standard_error for e in found]).mean()) == pytest.approx(spread, rel=0.3)


@pytest.mark.parametrize("name", ESTIMATES)
def test_standard_errors_fall_as_the_root_of_n(name):
    estimate, _ = ESTIMATES[name]
    few = sum(estimate(*draws(250, seed)).standard_error for seed in range(8))
    many = sum(estimate(*draws(1000, 100 + seed)).standard_error for seed in range(8))
    assert few / many == pytest.approx(2.0, rel=0.25)


@pytest.mark.parametrize("name", ["mmd_unbiased", "mmd_linear", "ksd"])
def test_kernel_estimates_are_0_on_average_where_p_is_q(name):
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(100):
        x, y = Q.sample(100, generator), Q.sample(100, generator)
        found.append(ESTIMATES[name][0](x, y))
    values = torch.tensor([e.value for e in found])
    assert abs(float(values.mean())) < 4 * float(values.std()) / 10
    assert float(torch.tensor([e.standard_error for e in found]).mean()) == pytest.approx(float(values.std()), rel=0.35)


def test_biased_mmd_is_never_negative_and_biased_by_the_diagonal():
    x, y = Q.sample(50, torch.Generator().manual_seed(1)), Q.sample(50, torch.Generator().manual_seed(2))
    biased, unbiased = (estimators.mmd_squared(x, y, KERNEL, form).value for form in ("biased", "unbiased"))
    assert biased > 0
    gram = KERNEL(x, x).double().mean() + KERNEL(y, y).double().mean() - 2 * KERNEL(x, y).double().mean()
    assert biased == pytest.approx(float(gram), rel=1e-12)
    assert biased > unbiased


def test_hyvarinen_differs_from_fisher_by_a_constant_of_p():
    x = P.sample(20_000, torch.Generator().manual_seed(3))
    other = Gaussian(torch.tensor([1.0, 0.0], dtype=torch.float64), 2 * torch.eye(2, dtype=torch.float64))
    near, far = (estimators.hyvarinen(g.score, x) for g in (Q, other))
    wanted = float(gaussians.fisher(P, other) - gaussians.fisher(P, Q))
    assert far.value - near.value == pytest.approx(wanted, abs=4 * (near.standard_error + far.standard_error))


def two_modes(weight):
    means = torch.tensor([[-10.0, 0.0], [10.0, 0.0]], dtype=torch.float64)
    return isotropic_mixture(means, 0.5, torch.tensor([weight, 1 - weight], dtype=torch.float64))


def test_blind_spot_scores_do_not_see_the_weights_of_far_modes():
    p, q = two_modes(0.9), two_modes(0.2)
    x = p.sample(2000, torch.Generator().manual_seed(4))
    y = q.sample(2000, torch.Generator().manual_seed(5))
    assert estimators.fisher(p.score(x), q.score(x)).value < 1e-12
    ksd = estimators.ksd_squared(y, p.score(y), InverseMultiquadric(1.0))
    assert abs(ksd.value) < 4 * ksd.standard_error
    kl = estimators.kl(p.log_prob(x), q.log_prob(x))
    assert kl.value == pytest.approx(0.9 * math.log(4.5) + 0.1 * math.log(0.125), abs=5 * kl.standard_error)
    mmd = estimators.mmd_squared(x, y, GaussianKernel(1.0))
    assert mmd.value > 10 * mmd.standard_error


def test_blind_spot_polynomial_kernels_see_moments_only():
    generator = torch.Generator().manual_seed(6)
    x = torch.randn(2000, 1, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 2, (2000, 1), generator=generator).double() * 2 - 1  # mean 0, variance 1 too
    quadratic = estimators.mmd_squared(x, y, PolynomialKernel(2))
    assert abs(quadratic.value) < 4 * quadratic.standard_error
    quartic = estimators.mmd_squared(x, y, PolynomialKernel(4))
    assert quartic.value > 5 * quartic.standard_error
    characteristic = estimators.mmd_squared(x, y, GaussianKernel(median_bandwidth(x, y)))
    assert characteristic.value > 10 * characteristic.standard_error


def test_ksd_needs_no_constant_and_works_on_an_unnormalized_density():
    p = planar_density("eight_gaussians")
    x = p.sample(500, torch.Generator().manual_seed(7))
    scaled = torch.func.grad(lambda t: (p.log_prob(t) + 12.3).sum())(x)
    assert estimators.ksd_squared(x, scaled, KERNEL).value == pytest.approx(
        estimators.ksd_squared(x, p.score(x), KERNEL).value, rel=1e-9
    )


def test_median_rule():
    x = torch.tensor([[0.0], [1.0], [3.0]])
    assert median_bandwidth(x) == pytest.approx(2.0)
    assert median_bandwidth(10 * x) == pytest.approx(20.0)
    with pytest.raises(UsageError, match="coincide"):
        median_bandwidth(torch.zeros(5, 2))
    with pytest.raises(UsageError, match="2 or more"):
        median_bandwidth(torch.zeros(1, 2))


def test_wrong_calls_are_refused():
    x, y = draws(10, 0)
    with pytest.raises(UsageError, match="did you mean 'biased'"):
        estimators.mmd_squared(x, y, KERNEL, "biassed")
    with pytest.raises(UsageError, match="as many"):
        estimators.mmd_squared(x, y[:8], KERNEL, "linear")
    with pytest.raises(UsageError, match="estimate it by kl"):
        estimators.renyi(*densities(x, y)[2:], 1)
    with pytest.raises(UsageError, match="n >= 4"):
        estimators.ksd_squared(x[:3], x[:3], KERNEL)


def test_estimates_of_discrete_tables():
    generator = torch.Generator().manual_seed(8)
    p, q = (torch.rand(6, generator=generator, dtype=torch.float64).softmax(0) ** 2 for _ in range(2))
    p, q = p / p.sum(), q / q.sum()
    x, y = (torch.multinomial(t, 20_000, replacement=True, generator=generator) for t in (p, q))
    at_p, at_q = (p.log()[x], q.log()[x]), (p.log()[y], q.log()[y])
    found = {
        "kl": (estimators.kl(*at_p), tables.kl(p, q)),
        "jensen_shannon": (estimators.jensen_shannon(*at_p, *at_q), tables.jensen_shannon(p, q)),
        "chi_squared": (estimators.chi_squared(*at_q), tables.chi_squared(p, q)),
        "renyi": (estimators.renyi(*at_q, 2.0), tables.renyi(p, q, 2.0)),
        "amari": (estimators.amari(*at_q, -1.0), tables.amari(p, q, -1.0)),
        "bregman": (estimators.bregman(*at_q, "itakura_saito"), tables.bregman(p, q, "itakura_saito")),
    }
    for name, (estimate, exact) in found.items():
        assert estimate.value == pytest.approx(float(exact), abs=4 * estimate.standard_error), name
        assert estimate.standard_error < 0.2 * float(exact), name
    with pytest.raises(UsageError, match="2 points or more"):
        estimators.kl(p.log()[:1], q.log()[:1])
