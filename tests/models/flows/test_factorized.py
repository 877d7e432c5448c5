"""Factorized densities: density, CDF, interval masses and quantiles are one distribution."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from codelength.functional import log_mean_exp
from codelength.models.flows.factorized import FactorizedGaussian, FactorizedLogistic, UniformDensity
from codelength.randomness import ExampleNoise
from codelength.space import Space
from codelength.transforms import Dequantized, Discretized, UniformDequantization
from codelength.units import bits_per_dim

SPACE = Space("vector", (1,), 8)
DENSITIES = {
    "uniform": (lambda: UniformDensity(SPACE), stats.uniform(0, 8)),
    "logistic": (lambda: FactorizedLogistic(SPACE, 3.0, 0.7).double(), stats.logistic(3, 0.7)),
    "gaussian": (lambda: FactorizedGaussian(SPACE, 3.0, 1.3).double(), stats.norm(3, 1.3)),
}


@pytest.mark.parametrize("name", DENSITIES)
def test_density_agrees_with_scipy(name: str) -> None:
    density, reference = DENSITIES[name][0](), DENSITIES[name][1]
    y = torch.linspace(0.1, 7.9, 40, dtype=torch.float64)[:, None]
    close = {"rtol": 2e-6, "atol": 2e-6}  # the parameters were float32 before
    torch.testing.assert_close(density.log_prob(y), torch.from_numpy(reference.logpdf(y)).squeeze(1), **close)
    torch.testing.assert_close(density.cdf(y), torch.from_numpy(reference.cdf(y)), **close)
    torch.testing.assert_close(density.quantile(density.cdf(y)), y, rtol=1e-9, atol=1e-9)
    mass = torch.from_numpy(reference.cdf(y + 0.1) - reference.cdf(y))
    torch.testing.assert_close(density.log_interval_mass(y, y + 0.1).exp(), mass, **close)


@pytest.mark.parametrize("kind", [FactorizedLogistic, FactorizedGaussian])
def test_interval_masses_keep_their_digits_in_both_tails(kind) -> None:
    density = kind(SPACE, 0.0, 1.0).double()
    low = torch.tensor([[38.0]], dtype=torch.float64)
    upper, lower = density.log_interval_mass(low, low + 1), density.log_interval_mass(-low - 1, -low)
    torch.testing.assert_close(upper, lower)
    assert density.log_prob(low + 1) < upper.squeeze() < density.log_prob(low), "mean value theorem, where the CDF is 1"
    assert density.cdf(low + 1) - density.cdf(low) < upper.exp() / 2, "the plain difference has lost it"


@pytest.mark.parametrize("name", DENSITIES)
def test_samples_follow_the_cdf(name: str) -> None:
    density, reference = DENSITIES[name][0](), DENSITIES[name][1]
    y = density.sample(4000, torch.Generator().manual_seed(0)).squeeze(1)
    assert stats.kstest(y.numpy(), reference.cdf).pvalue > 1e-3


def test_scale_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        FactorizedLogistic(SPACE, 0.0, 0.0)


def test_known_gap_of_the_dequantization_bound() -> None:
    """A narrow logistic in 16 dims: 0.05 bits/dim or more at one sample, at most 0.001 + 3 s.e. at 1,000."""
    space = Space("vector", (16,), 256)
    density = FactorizedLogistic(space, 128.3, 0.5).double()
    x = Discretized(density).sample(300, torch.Generator().manual_seed(3))
    exact = Discretized(density).log_prob(x)
    weights = Dequantized(density, UniformDequantization(256)).log_weights(x, 1000, ExampleNoise(0, range(300))).total
    with torch.no_grad():
        one = bits_per_dim(exact - weights[0], 16)
        thousand = bits_per_dim(exact - log_mean_exp(weights), 16)
    assert one.mean() > 0.05
    assert thousand.mean() < 0.001 + 3 * thousand.std() / 300**0.5
    assert thousand.mean() > -3 * thousand.std() / 300**0.5
