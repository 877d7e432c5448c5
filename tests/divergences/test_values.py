"""Exact values against other libraries, against each other, and at equality."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
import torch
from torch import distributions

from codelength.divergences import Gaussian, GaussianKernel, InverseMultiquadric, PolynomialKernel, gaussians, tables
from codelength.errors import UsageError


def table(seed, size=7):
    return torch.rand(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).softmax(0)


def gaussian(seed, dims=2):
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(dims, dims, generator=generator, dtype=torch.float64) * 0.3
    covariance = factor @ factor.T + torch.eye(dims, dtype=torch.float64)
    return Gaussian(torch.randn(dims, generator=generator, dtype=torch.float64), covariance)


P, Q = table(0), table(1)
A, B = gaussian(0), gaussian(1)
KERNEL = GaussianKernel(1.3)
OF_TABLES = {
    "kl": tables.kl,
    "jensen_shannon": tables.jensen_shannon,
    "chi_squared": tables.chi_squared,
    "renyi_half": lambda p, q: tables.renyi(p, q, 0.5),
    "renyi_3": lambda p, q: tables.renyi(p, q, 3.0),
    "amari_-1": lambda p, q: tables.amari(p, q, -1.0),
    "amari_half": lambda p, q: tables.amari(p, q, 0.5),
    "bregman_squared": lambda p, q: tables.bregman(p, q, "squared"),
    "bregman_entropy": lambda p, q: tables.bregman(p, q, "negative_entropy"),
    "bregman_ratio": lambda p, q: tables.bregman(p, q, "itakura_saito"),
    "bregman_own": lambda p, q: tables.bregman(p, q, lambda t: t**4),
    "mmd": lambda p, q: tables.mmd_squared(p, q, torch.eye(len(p), dtype=torch.float64)),
}
OF_GAUSSIANS = {
    "kl": gaussians.kl,
    "jensen_shannon": gaussians.jensen_shannon,
    "chi_squared": gaussians.chi_squared,
    "renyi_half": lambda p, q: gaussians.renyi(p, q, 0.5),
    "amari_half": lambda p, q: gaussians.amari(p, q, 0.5),
    "bregman_squared": gaussians.bregman_squared,
    "fisher": gaussians.fisher,
    "mmd": lambda p, q: gaussians.mmd_squared(p, q, KERNEL),
    "ksd": lambda p, q: gaussians.ksd_squared(p, q, KERNEL),
    "frechet": gaussians.frechet_squared,
}


@pytest.mark.parametrize("name", OF_TABLES)
def test_tables_are_zero_at_equality_and_positive_elsewhere(name):
    assert abs(float(OF_TABLES[name](P, P))) < 1e-12
    assert float(OF_TABLES[name](P, Q)) > 1e-4


@pytest.mark.parametrize("name", OF_GAUSSIANS)
def test_gaussians_are_zero_at_equality_and_positive_elsewhere(name):
    assert abs(float(OF_GAUSSIANS[name](A, A))) < 1e-9
    assert float(OF_GAUSSIANS[name](A, B)) > 1e-3


def test_tables_agree_with_scipy_and_torch():
    p, q = P.numpy(), Q.numpy()
    assert float(tables.kl(P, Q)) == pytest.approx(scipy.stats.entropy(p, q), rel=1e-12)
    assert float(tables.entropy(P)) == pytest.approx(scipy.stats.entropy(p), rel=1e-12)
    assert float(tables.kl(P, Q)) == pytest.approx(
        float(distributions.kl_divergence(distributions.Categorical(P), distributions.Categorical(Q))), rel=1e-12
    )
    from scipy.spatial.distance import jensenshannon

    assert float(tables.jensen_shannon(P, Q)) == pytest.approx(jensenshannon(p, q) ** 2, rel=1e-10)
    chi = scipy.stats.chisquare(1e3 * p, 1e3 * q).statistic / 1e3
    assert float(tables.chi_squared(P, Q)) == pytest.approx(chi, rel=1e-10)


def test_relations_between_divergences_of_tables():
    assert float(tables.amari(P, Q, 2.0)) == pytest.approx(float(tables.chi_squared(P, Q)) / 2, rel=1e-12)
    assert float(tables.renyi(P, Q, 2.0)) == pytest.approx(math.log1p(float(tables.chi_squared(P, Q))), rel=1e-12)
    assert float(tables.amari(P, Q, 1 - 1e-6)) == pytest.approx(float(tables.amari(P, Q, 1)), rel=1e-4)
    assert float(tables.amari(P, Q, 1e-6)) == pytest.approx(float(tables.kl(Q, P)), rel=1e-4)
    assert float(tables.bregman(P, Q, "negative_entropy")) == pytest.approx(float(tables.kl(P, Q)), rel=1e-12)
    assert float(tables.bregman(P, Q, "squared")) == pytest.approx(float((P - Q).square().sum()), rel=1e-12)
    orders = [float(tables.renyi(P, Q, a)) for a in (0.25, 0.5, 1.0, 2.0, 4.0)]
    assert orders == sorted(orders)


def test_impossible_outcomes_make_what_divides_by_them_infinite_and_jensen_shannon_ln_2():
    p, q = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert float(tables.kl(p, q)) == math.inf
    assert float(tables.chi_squared(p, q)) == math.inf
    assert float(tables.jensen_shannon(p, q)) == pytest.approx(math.log(2))
    assert float(tables.kl(p, torch.tensor([0.5, 0.5]))) == pytest.approx(math.log(2))


@pytest.mark.parametrize("bad", [torch.tensor([0.5, 0.6]), torch.tensor([1.5, -0.5]), torch.tensor([1.0])])
def test_what_is_no_table_is_refused(bad):
    with pytest.raises(UsageError):
        tables.kl(bad, torch.tensor([0.5, 0.5]))


def test_unknown_generators_and_orders_are_refused():
    with pytest.raises(UsageError, match="did you mean 'squared'"):
        tables.bregman(P, Q, "square")
    with pytest.raises(UsageError, match="positive order"):
        tables.renyi(P, Q, 0.0)


def test_gaussian_kl_agrees_with_torch():
    theirs = distributions.kl_divergence(*(distributions.MultivariateNormal(g.mean, g.covariance) for g in (A, B)))
    assert float(gaussians.kl(A, B)) == pytest.approx(float(theirs), rel=1e-12)
    normal = distributions.MultivariateNormal(A.mean, A.covariance)
    assert float(A.entropy()) == pytest.approx(float(normal.entropy()), rel=1e-12)
    x = A.sample(5, torch.Generator().manual_seed(0))
    torch.testing.assert_close(A.log_prob(x), normal.log_prob(x))


ONE, TWO = gaussian(2, 1), gaussian(3, 1)


def integral(function):
    return scipy.integrate.quad(
        lambda t: float(function(torch.tensor([[t]], dtype=torch.float64))), -30, 30, limit=200
    )[0]


@pytest.mark.parametrize(
    ("name", "value", "integrand"),
    [
        ("renyi", lambda: torch.expm1(-0.5 * gaussians.renyi(ONE, TWO, 0.5)) + 1, lambda p, q: (0.5 * (p + q)).exp()),
        ("chi", lambda: gaussians.chi_squared(ONE, TWO) + 1, lambda p, q: (2 * p - q).exp()),
        ("bregman", lambda: gaussians.bregman_squared(ONE, TWO), lambda p, q: (p.exp() - q.exp()) ** 2),
    ],
)
def test_gaussian_closed_forms_are_the_integrals(name, value, integrand):
    assert float(value()) == pytest.approx(integral(lambda x: integrand(ONE.log_prob(x), TWO.log_prob(x))), rel=1e-7)


def test_fisher_is_the_integral():
    wanted = integral(lambda x: 0.5 * ONE.log_prob(x).exp() * (ONE.score(x) - TWO.score(x)).square().sum())
    assert float(gaussians.fisher(ONE, TWO)) == pytest.approx(wanted, rel=1e-8)


def test_jensen_shannon_is_symmetric_and_agrees_with_adaptive_quadrature():
    def integrand(x):
        p, q = ONE.log_prob(x), TWO.log_prob(x)
        m = torch.logaddexp(p, q) - math.log(2)
        return 0.5 * (p.exp() * (p - m) + q.exp() * (q - m))

    assert float(gaussians.jensen_shannon(ONE, TWO)) == pytest.approx(integral(integrand), rel=1e-7)
    assert float(gaussians.jensen_shannon(TWO, ONE)) == pytest.approx(integral(integrand), rel=1e-7)
    with pytest.raises(UsageError, match="estimator"):
        gaussians.jensen_shannon(Gaussian.standard(3), Gaussian.standard(3))


def test_renyi_of_wide_gaussians_is_infinite():
    wide = Gaussian(torch.zeros(1, dtype=torch.float64), 9 * torch.eye(1, dtype=torch.float64))
    assert float(gaussians.renyi(wide, Gaussian.standard(1), 2.0)) == math.inf
    assert math.isfinite(float(gaussians.renyi(Gaussian.standard(1), wide, 2.0)))


@pytest.mark.parametrize("kind", ["mmd", "ksd"])
def test_kernel_divergences_of_gaussians_are_the_double_integrals(kind):
    t = torch.linspace(-12, 12, 1201, dtype=torch.float64)[:, None]
    step = float(t[1, 0] - t[0, 0])
    p, q = (g.log_prob(t).exp() * step for g in (ONE, TWO))
    if kind == "mmd":
        wanted = (p - q) @ KERNEL(t, t) @ (p - q)
        value = gaussians.mmd_squared(ONE, TWO, KERNEL)
    else:
        score = TWO.score(t)
        wanted = p @ KERNEL.stein(t, t, score, score) @ p
        value = gaussians.ksd_squared(ONE, TWO, KERNEL)
    assert float(value) == pytest.approx(float(wanted), rel=1e-6)


def test_frechet_is_scipys():
    root = np.real(scipy.linalg.sqrtm(A.covariance.numpy() @ B.covariance.numpy()))
    wanted = float((A.mean - B.mean).square().sum() + (A.covariance + B.covariance).trace()) - 2 * np.trace(root)
    assert float(gaussians.frechet_squared(A, B)) == pytest.approx(wanted, rel=1e-8)


def test_kernels_agree_with_scikit_learn():
    from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

    x, y = (g.sample(6, torch.Generator().manual_seed(4)) for g in (A, B))
    np.testing.assert_allclose(KERNEL(x, y), rbf_kernel(x, y, gamma=0.5 / 1.3**2), rtol=1e-12)
    np.testing.assert_allclose(
        PolynomialKernel(3)(x, y), polynomial_kernel(x, y, degree=3, gamma=1, coef0=1), rtol=1e-12
    )


@pytest.mark.parametrize(
    "kernel", [KERNEL, InverseMultiquadric(0.8), PolynomialKernel(1), PolynomialKernel(3)], ids=lambda k: repr(k)
)
def test_stein_kernels_agree_with_autodiff(kernel):
    x, y = A.sample(3, torch.Generator().manual_seed(5)), A.sample(3, torch.Generator().manual_seed(6))
    ours = kernel.stein(x, y, B.score(x), B.score(y))
    for i in range(3):
        for j in range(3):

            def k(a, b):
                return kernel(a[None], b[None])[0, 0]

            a, b = x[i], y[j]
            grad_a, grad_b = torch.autograd.functional.jacobian(k, (a, b))
            cross = torch.autograd.functional.hessian(k, (a, b))[0][1]
            s, t = B.score(a[None])[0], B.score(b[None])[0]
            wanted = s @ t * k(a, b) + s @ grad_b + t @ grad_a + cross.trace()
            assert float(ours[i, j]) == pytest.approx(float(wanted), rel=1e-9, abs=1e-12)


def test_degenerate_gaussians_are_refused():
    with pytest.raises(UsageError, match="positive definite"):
        Gaussian(torch.zeros(2), torch.ones(2, 2))
    with pytest.raises(UsageError, match="wanted"):
        Gaussian(torch.zeros(2), torch.eye(3))
