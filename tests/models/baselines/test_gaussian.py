"""The full-covariance Gaussian against torch, quadrature and its own samples."""

from __future__ import annotations

import math

import pytest
import torch

from codelength import Space, bits_per_dim, build_model
from codelength.data import load_data
from codelength.data.official import is_here
from codelength.errors import SpaceMismatchError, UsageError
from codelength.models.base import estimate_kind
from codelength.models.baselines.gaussian import Gaussian
from codelength.randomness import ExampleNoise
from codelength.run import load_tensors, load_weights, save_tensors


def _data(space, count=400, seed=0):
    """Correlated integers that stay inside the levels."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.rand(count, 1, 1, 1, generator=generator)
    own = torch.rand(count, *space.sizes, generator=generator)
    return ((0.7 * common + 0.3 * own) * space.levels).long().clamp(max=space.levels - 1) + space.offset


# The first sums in float32, the second in float64.
@pytest.mark.parametrize("levels", [256, 5000])
def test_moments_are_those_of_the_dequantized_data(levels):
    space = Space.image(2, 2, 3, levels, offset=-7)
    x = _data(space)
    model = Gaussian(space, ridge=0.25)
    model.fit(x)
    flat = x.flatten(1).double()
    covariance = torch.cov(flat.T, correction=0) + (1 / 12 + 0.25) * torch.eye(12)
    assert model.mean.tolist() == pytest.approx((flat.mean(0) + 0.5).tolist(), rel=1e-12)
    assert torch.allclose(model.scale_tril @ model.scale_tril.T, covariance, rtol=1e-9, atol=1e-9 * levels**2)
    y = x[:20] + 0.5
    wanted = torch.distributions.MultivariateNormal(flat.mean(0) + 0.5, covariance).log_prob(y.flatten(1).double())
    assert model.log_prob(y).tolist() == pytest.approx(wanted.tolist(), abs=1e-6)


def test_density_integrates_to_one():
    space = Space.image(1, 1, 2, 16)
    model = Gaussian(space)
    model.fit(_data(space))
    grid = torch.arange(-40, 56, 0.125, dtype=torch.float64)
    y = torch.cartesian_prod(grid, grid).view(-1, 1, 1, 2)
    assert model.log_prob(y).exp().sum() * 0.125**2 == pytest.approx(1, abs=1e-9)


def test_samples_follow_the_density():
    space = Space.image(1, 2, 2, 64)
    model = Gaussian(space)
    model.fit(_data(space))
    y = model.sample(20_000, torch.Generator().manual_seed(0))
    assert y.shape == (20_000, 1, 2, 2)
    code_length = -model.log_prob(y)
    entropy = 2 * math.log(2 * math.pi * math.e) + float(model.scale_tril.diagonal().log().sum())
    assert abs(code_length.mean() - entropy) < 5 * code_length.std() / math.sqrt(len(y))
    assert abs(-model.log_prob(y.flip(0) * 0.9).mean() - entropy) > 5 * code_length.std() / math.sqrt(len(y))


def test_the_system_is_a_bound_and_survives_save_and_load(tmp_path):
    space = Space.image(1, 3, 3, 256)
    x = _data(space)
    model, again = build_model("gaussian", space), build_model("gaussian", space, ridge=0.5)
    model.fit(x)
    assert estimate_kind(model) == "bound"
    save_tensors(model.state_dict(), tmp_path / "m.safetensors")
    load_weights(again, load_tensors(tmp_path / "m.safetensors"), "m")
    weights = [m.log_weights(x[:7], 3, ExampleNoise(0, range(7))).total for m in (model, again)]
    assert weights[0].shape == (3, 7)
    assert (weights[0] == weights[1]).all()
    single = again.to(torch.float32).log_weights(x[:7], 3, ExampleNoise(0, range(7))).total
    assert single.tolist() == [pytest.approx(row, rel=1e-4) for row in weights[0].tolist()]
    drawn = model.sample(10, torch.Generator().manual_seed(0))
    assert space.validate(drawn).shape == (10, 1, 3, 3)


def test_the_bound_is_below_the_mass():
    """On one dim the mass of a bin is a difference of normal CDFs; the mean log weight stays below, its mean in probability hits it."""
    space = Space.image(1, 1, 1, 8)
    model = build_model("gaussian", space, ridge=0.0)
    model.fit(torch.tensor([3, 3, 3, 4]).view(-1, 1, 1, 1))
    x = torch.tensor([5]).view(1, 1, 1, 1)
    normal = torch.distributions.Normal(model.density.mean, model.density.scale_tril[0])
    mass = (normal.cdf(torch.tensor(6.0)) - normal.cdf(torch.tensor(5.0))).log().item()
    weights = model.log_weights(x, 20_000, ExampleNoise(0, [0])).total[:, 0]
    error = weights.std() / math.sqrt(len(weights))
    assert weights.mean() < mass - 5 * error
    spread = weights.exp().std() / weights.exp().mean() / math.sqrt(len(weights))
    assert abs(weights.logsumexp(0) - math.log(len(weights)) - mass) < 5 * spread


def test_errors():
    space = Space.image(1, 2, 2, 4)
    model = build_model("gaussian", space)
    x = _data(space, 5)
    with pytest.raises(UsageError, match="Gaussian is not fitted"):
        model.log_weights(x, 1, torch.Generator())
    with pytest.raises(UsageError, match="Gaussian is not fitted"):
        model.sample(1, torch.Generator())
    with pytest.raises(UsageError, match="no data"):
        model.fit(x[:0])
    with pytest.raises(SpaceMismatchError):
        model.fit(x + 4)
    with pytest.raises(UsageError, match="ridge=-1; wanted 0 or more"):
        build_model("gaussian", space, ridge=-1)
    tiny = Gaussian(space)
    tiny.ridge = -1 / 12 - 1e-3  # what no user can set, to reach the message
    with pytest.raises(UsageError, match="singular"):
        tiny.fit(torch.zeros(5, 1, 2, 2, dtype=torch.long))


@pytest.mark.slow
def test_cifar10_bar():
    """4.65 ± 0.03 bits/dim, ../docs/data.md; literature 4.70."""
    if not is_here("cifar10"):
        pytest.skip("the official files are not here")
    data = load_data("cifar10")
    model = build_model("gaussian", data.space)
    model.fit(data.split("train").batch(slice(None)))
    x = data.split("test").batch(slice(None))
    generator = torch.Generator().manual_seed(0)
    nats = torch.cat([-model.log_weights(part, 1, generator).total[0] for part in x.split(1000)])
    assert float(bits_per_dim(nats.mean(), 3072)) == pytest.approx(4.65, abs=0.03)
