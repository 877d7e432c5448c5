"""Dequantization is a bound on the exact mass, and never an exact value."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from codelength.errors import EvaluationError, UsageError
from codelength.functional import log_mean_exp
from codelength.models.base import LikelihoodModel, can, estimate_kind
from codelength.models.flows.factorized import FactorizedGaussian, FactorizedLogistic, UniformDensity
from codelength.randomness import ExampleNoise, Noise
from codelength.space import Space
from codelength.transforms import Dequantized, Dequantizer, Discretized, UniformDequantization
from codelength.transforms.dequantization import floor_to_space, uniformly_dequantized
from codelength.units import bits_per_dim

SPACE = Space("vector", (2,), 3)
EVERY = torch.tensor(list(itertools.product(range(3), repeat=2)))


def logistic() -> FactorizedLogistic:
    return FactorizedLogistic(SPACE, torch.tensor([1.5, 0.8]), 0.5).double()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class LowerHalf(Dequantizer):
    """Uniform on the lower half of each bin: log q = D log 2."""

    def sample(
        self, x: Tensor, k: int, generator: Noise, *, dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor]:
        y, log_q = UniformDequantization(256).sample(x, k, generator, dtype=dtype)
        return x + (y - x) / 2, log_q + x[0].numel() * math.log(2)


@pytest.mark.parametrize("levels", [2, 256, 65536, 2**20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_stays_in_its_bin(levels: int, dtype: torch.dtype) -> None:
    x = torch.tensor([0, 1, levels // 2, levels - 1]).expand(50, 4)
    y, log_q = UniformDequantization(levels).sample(x, 200, generator(), dtype=dtype)
    assert y.dtype == dtype
    assert torch.equal(y.floor().long(), x.expand(200, 50, 4))
    assert torch.equal(log_q, torch.zeros(200, 50, dtype=dtype))


def test_without_the_guard_noise_would_leave_its_bin() -> None:
    x = torch.full((1000, 100), 2**20 - 1)
    noise = torch.rand(x.shape, generator=generator())
    assert (x.float() + noise).max() == 2**20


def test_noise_belongs_to_the_example_not_to_the_batch() -> None:
    x = torch.arange(12).reshape(6, 2) % 3
    step = UniformDequantization(3)
    together, _ = step.sample(x, 4, ExampleNoise(7, range(6)))
    alone, _ = step.sample(x[[4]], 2, ExampleNoise(7, [4], first_sample=2))
    assert torch.equal(alone[:, 0], together[2:, 4])


@pytest.mark.parametrize(("channels", "levels"), [(1, 256), (3, 256), (1, 17)])
def test_uniform_density_costs_log2_of_the_levels(channels: int, levels: int) -> None:
    space = Space.image(channels, 4, 4, levels)
    model = uniformly_dequantized(UniformDensity)(space)
    x = torch.randint(0, levels, (5, *space.sizes), generator=generator())
    code_length = -model.log_weights(x, 3, ExampleNoise(0, range(5))).total
    torch.testing.assert_close(
        bits_per_dim(code_length, space.num_dims), torch.full((3, 5), math.log2(levels)), atol=1e-6, rtol=0
    )


def test_uniform_density_is_minus_infinity_outside() -> None:
    density = UniformDensity(Space("vector", (1,), 4, offset=-2)).double()
    assert density.log_prob(torch.tensor([[-2.0], [1.9], [-2.1], [2.0]])).exp().tolist() == [0.25, 0.25, 0, 0]


@pytest.mark.parametrize("make", [logistic, lambda: FactorizedGaussian(SPACE, 1.0, 0.6).double()])
def test_bound_is_below_the_exact_mass_and_rises_to_it(make) -> None:
    exact = Discretized(make()).log_prob(EVERY)
    weights = Dequantized(make(), UniformDequantization(3)).log_weights(EVERY, 100_000, generator()).total
    one, error = weights.mean(0), weights.std(0) / 100_000**0.5
    groups = log_mean_exp(weights.reshape(100, 1000, 9), dim=1)
    thousand, thousand_error = groups.mean(0), groups.std(0) / 10
    assert (one + 3 * error < exact).all(), "one sample: strictly below, the density is not flat"
    assert (thousand < exact + 3 * thousand_error).all()
    assert (thousand > one).all()
    # The weights' variance is that of p(x + u) / P(x): log mean of 1000 is short by about var / 2000.
    shortfall = (2 * (weights - exact)).exp().mean(0).sub(1) / 2000
    assert ((thousand - exact + shortfall).abs() < 3 * thousand_error + 0.2 * shortfall).all()


def test_bound_without_its_log_q_would_be_seen() -> None:
    """Negative control: a half-wide dequantizer needs its log 2 a dim; without it the bound is off by D log 2."""
    density = UniformDensity(SPACE).double()
    terms = Dequantized(density, LowerHalf()).log_weights(EVERY, 10, generator()).terms
    truth = Discretized(density).log_prob(EVERY)
    assert (terms["log_density"] - terms["minus_log_q"] > truth + 1).all()
    total = terms["log_density"] + terms["minus_log_q"]
    assert torch.allclose(total, truth - 2 * math.log(2)), "half the bin is covered, half its mass is bounded"


def test_terms_add_up_and_are_named() -> None:
    weights = Dequantized(logistic(), UniformDequantization(3)).log_weights(EVERY, 5, generator())
    assert list(weights.terms) == ["log_density", "minus_log_q"]
    assert weights.total.shape == (5, 9)
    assert torch.equal(weights.total, weights.terms["log_density"] + weights.terms["minus_log_q"])


def test_a_dequantized_density_is_a_bound_and_a_discretized_one_exact() -> None:
    dequantized = Dequantized(logistic(), UniformDequantization(3))
    assert estimate_kind(dequantized) == "bound"
    assert dequantized.measure == "mass"
    assert not can(dequantized, "log_prob")
    assert estimate_kind(Discretized(logistic())) == "exact"


def test_only_densities_are_dequantized_or_discretized() -> None:
    mass = Discretized(logistic())
    with pytest.raises(UsageError, match="wanted a density"):
        Dequantized(mass, UniformDequantization(3))
    with pytest.raises(UsageError, match="cannot be integrated"):
        Discretized(mass)
    with pytest.raises(UsageError, match="no log_prob"):
        Dequantized(LikelihoodModel(SPACE, "density"), UniformDequantization(3))
    with pytest.raises(ValueError, match="2\\.\\.1048576"):
        UniformDequantization(2**24)
    for score in (
        lambda x: mass.log_prob(x),
        lambda x: Dequantized(logistic(), UniformDequantization(3)).log_weights(x, 1, generator()),
    ):
        with pytest.raises(ValueError, match="wanted integers"):
            score(EVERY.double())


def test_dequantizers_can_be_swapped_and_share_the_weights() -> None:
    trained = Dequantized(logistic(), LowerHalf())
    swapped = trained.with_dequantizer(UniformDequantization(3))
    assert swapped.density is trained.density
    assert isinstance(swapped.dequantizer, UniformDequantization)
    assert isinstance(trained.dequantizer, LowerHalf)


def test_open_edges_normalize_and_closed_ones_integrate() -> None:
    total = Discretized(logistic(), open_edges=True).log_prob(EVERY).exp().sum()
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-12, rtol=0)
    inside = (logistic().cdf(torch.full((1, 2), 3.0)) - logistic().cdf(torch.zeros(1, 2))).prod()
    torch.testing.assert_close(Discretized(logistic()).log_prob(EVERY).exp().sum(), inside)
    assert inside < 0.95


def test_open_edges_can_be_trained() -> None:
    density = logistic()
    Discretized(density, open_edges=True).log_prob(EVERY).sum().backward()
    assert density.loc.grad is not None
    assert density.loc.grad.isfinite().all()
    assert density.log_scale.grad.isfinite().all()


def test_a_cdf_is_enough_to_discretize() -> None:
    class OnlyCdf(LikelihoodModel):
        def __init__(self) -> None:
            super().__init__(SPACE, "density")

        def cdf(self, y: Tensor) -> Tensor:
            return logistic().cdf(y.double())

    torch.testing.assert_close(Discretized(OnlyCdf()).log_prob(EVERY), Discretized(logistic()).log_prob(EVERY))


def test_samples_follow_the_mass() -> None:
    n = 20_000
    model = Discretized(logistic(), open_edges=True)
    probs = model.log_prob(EVERY).exp()
    for sampler in (model, Dequantized(logistic(), UniformDequantization(3))):
        x = sampler.sample(n, generator(1))
        counts = torch.bincount(3 * x[:, 0] + x[:, 1], minlength=9).double()
        z = (counts - n * probs) / (n * probs * (1 - probs)).sqrt()
        assert (z.abs() < 4).all()


def test_samples_are_integers_of_the_space() -> None:
    space = Space("vector", (2,), 5, offset=-2)
    y = torch.tensor([[-9.0, -2.0], [2.999, 3.0], [-0.5, torch.inf]])
    assert floor_to_space(y, space).tolist() == [[-2, -2], [2, 2], [-1, 2]]
    with pytest.raises(EvaluationError, match="NaN"):
        floor_to_space(torch.tensor([torch.nan]), space)


def test_conditions_reach_the_density_once_for_each_draw() -> None:
    class Shifted(LikelihoodModel):
        def __init__(self) -> None:
            super().__init__(SPACE, "density", ("label",))

        def log_prob(self, y: Tensor, label: Tensor) -> Tensor:
            return -(y.sum(1).floor() - label).abs()

    x = EVERY * 2
    model = Dequantized(Shifted(), LowerHalf())
    assert model.conditioning == ("label",)
    weights = model.log_weights(x, 3, generator(), label=x.sum(1))
    assert torch.equal(weights.terms["log_density"], torch.zeros(3, 9))


def test_temperature_is_the_densitys_affair() -> None:
    class Cold(LikelihoodModel):
        def __init__(self) -> None:
            super().__init__(SPACE, "density")

        def log_prob(self, y: Tensor) -> Tensor:
            return y.sum(1)

        def sample(self, n: int, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
            return torch.full((n, 2), 2 * temperature)

    model = Dequantized(Cold(), UniformDequantization(3))
    assert model.sample(1, generator()).tolist() == [[2, 2]]
    assert model.sample(1, generator(), temperature=0.5).tolist() == [[1, 1]]
    model.initialize(EVERY, generator())
