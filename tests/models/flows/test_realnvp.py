"""RealNVP: an exact, normalized density of each datum alone."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from codelength.errors import UsageError
from codelength.functional import log_mean_exp
from codelength.models.base import can, estimate_kind, num_parameters
from codelength.models.flows.realnvp import RealNVP, dequantized_realnvp
from codelength.models.registry import build_model
from codelength.randomness import ExampleNoise
from codelength.recipe import load_recipe
from codelength.space import Space
from codelength.transforms import Compose, Dequantized, UniformDequantization

TINY = Space.image(1, 1, 2, 4)
SMALL = Space.image(1, 4, 4, 5, offset=-2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=["logit", "marginal"])
def tiny(randomize: Callable[..., nn.Module], request: pytest.FixtureRequest) -> RealNVP:
    """Two pixels, four levels: small enough to integrate over."""
    model = RealNVP(TINY, scales=1, filters=4, blocks=1, preprocessing=request.param)
    return randomize(model, seed=3, scale=0.25).double()


@pytest.fixture(params=["logit", "marginal"])
def small(randomize: Callable[..., nn.Module], request: pytest.FixtureRequest) -> RealNVP:
    model = RealNVP(SMALL, scales=2, filters=4, blocks=1, fold=2, preprocessing=request.param)
    return randomize(model, scale=0.2).double()


def inside(model: RealNVP, batch: int) -> Tensor:
    shape = (batch, *model.space.sizes)
    return model.space.offset + model.space.levels * torch.rand(shape, generator=generator(5), dtype=torch.float64)


def quadrature(low: float, high: float, nodes: int = 40) -> tuple[Tensor, Tensor]:
    """Nodes on [low, high]^2 as data of TINY, (16 nodes², 1, 1, 2), and their weights, in 4 x 4 equal cells.

    In each cell y = cell + width * sigmoid(t) with t equally spaced: kinks at the edges of bins cost no accuracy.
    """
    t, width = torch.linspace(-26, 26, nodes, dtype=torch.float64), (high - low) / 4
    axis = torch.cat([low + width * (cell + torch.sigmoid(t)) for cell in range(4)])
    weight = (width * (t[1] - t[0]) * torch.sigmoid(t) * torch.sigmoid(-t)).repeat(4)
    return torch.cartesian_prod(axis, axis).reshape(-1, 1, 1, 2), torch.outer(weight, weight).flatten()


def cell_masses(density: Tensor, weight: Tensor) -> Tensor:
    """Mass of each of the 16 cells of `quadrature`."""
    nodes = int(len(weight) ** 0.5) // 4
    return (density * weight).reshape(4, nodes, 4, nodes).sum((1, 3)).flatten()


def test_density_integrates_to_one(tiny: RealNVP) -> None:
    y, weight = quadrature(*tiny.support)
    with torch.no_grad():
        total = (tiny.log_prob(y).exp() * weight).sum()
    assert abs(total - 1) < 1e-4


def test_a_missing_jacobian_would_not_integrate_to_one(tiny: RealNVP) -> None:
    y, weight = quadrature(*tiny.support)
    with torch.no_grad():
        log_dets, z = [], y
        for transform in tiny.flow.transforms:
            z, log_det = transform(z)
            log_dets.append(log_det)
        log_prior = -0.5 * (z**2 + math.log(2 * math.pi)).sum(1)
        total = log_prior + sum(log_dets)
        assert abs((total.exp() * weight).sum() - 1) < 1e-4
        for missing in log_dets:
            assert abs(((total - missing).exp() * weight).sum() - 1) > 0.05


def test_nothing_outside_the_support(tiny: RealNVP) -> None:
    low, high = tiny.support
    assert low <= 0
    assert high >= 4
    y = torch.tensor([[low - 0.01, 1.0], [1.0, high + 0.01], [1.0, 1.0]], dtype=torch.float64).reshape(3, 1, 1, 2)
    values = tiny.log_prob(y)
    assert values.isneginf().tolist() == [True, True, False]
    values[2].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in tiny.parameters())


def test_inverse_both_ways(small: RealNVP) -> None:
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        model, y = small.to(dtype), inside(small, 4).to(dtype)
        z = model.latents(y)
        torch.testing.assert_close(model.inverse(z), y, atol=tolerance * 5, rtol=tolerance)
        torch.testing.assert_close(model.latents(model.inverse(z)), z, atol=20 * tolerance, rtol=tolerance)


def test_log_det_of_the_whole_model(small: RealNVP, log_det_by_autodiff) -> None:
    y = inside(small, 2)
    z = small.latents(y)
    log_prior = torch.distributions.Normal(0, 1).log_prob(z).sum(1)
    expected = log_prior + log_det_by_autodiff(lambda v: small.latents(v), y)
    torch.testing.assert_close(small.log_prob(y), expected, atol=1e-8, rtol=1e-8)


def test_log_det_of_the_preprocessing(small: RealNVP, log_det_by_autodiff) -> None:
    preprocessing = Compose(list(small.flow.transforms)[:-1])
    y = inside(small, 3)
    expected = log_det_by_autodiff(lambda v: preprocessing(v)[0], y)
    torch.testing.assert_close(preprocessing(y)[1], expected, atol=1e-9, rtol=1e-9)


def test_the_density_is_finite_up_to_the_ends_of_the_range(tiny: RealNVP) -> None:
    """Else the weights of the dequantization bound would have no variance."""
    y, _ = quadrature(0, 4)
    values = tiny.log_prob(y)
    assert values.max() < 5
    for end in (0.0, 4 - 1e-9):
        assert tiny.log_prob(torch.full((1, 1, 1, 2), end, dtype=torch.float64)) < 5


def test_samples_follow_the_density(tiny: RealNVP) -> None:
    n = 20_000
    samples = tiny.sample(n, generator(1))
    low, high = tiny.support
    y, weight = quadrature(low, high)
    with torch.no_grad():
        probs = cell_masses(tiny.log_prob(y).exp(), weight)
    cells = ((samples.reshape(n, 2) - low) / (high - low) * 4).long().clamp(0, 3)
    counts = torch.bincount(4 * cells[:, 0] + cells[:, 1], minlength=16).double()
    z = (counts - n * probs) / (n * probs + 1e-9).sqrt()
    assert (z.abs() < 4.5).all()


def test_bound_of_the_dequantized_model(tiny: RealNVP) -> None:
    """Exact masses by quadrature over the bins: one sample is below, 1,000 samples are close."""
    y, weight = quadrature(0, 4)
    with torch.no_grad():
        exact = cell_masses(tiny.log_prob(y).exp(), weight).log()
        x = torch.cartesian_prod(torch.arange(4), torch.arange(4)).reshape(-1, 1, 1, 2)
        weights = Dequantized(tiny, UniformDequantization(4)).log_weights(x, 5000, generator(2)).total
    one, error = weights.mean(0), weights.std(0) / 5000**0.5
    groups = log_mean_exp(weights.reshape(5, 1000, 16), dim=1)
    assert (one < exact + 3 * error).all()
    assert (one < exact - 3 * error).any()
    assert (one < groups.mean(0)).all()
    spread = (2 * (weights - exact)).exp().mean(0).sub(1).div(5000).sqrt()
    assert ((groups.mean(0) - exact).abs() < 4 * spread + 0.01).all()


def test_every_datum_is_scored_alone(small: RealNVP) -> None:
    model = Dequantized(small, UniformDequantization(5))
    x = torch.randint(-2, 3, (6, 1, 4, 4), generator=generator(4))
    together = model.log_weights(x, 3, ExampleNoise(0, range(6))).total
    order = [3, 0, 5]
    apart = model.log_weights(x[order], 3, ExampleNoise(0, order)).total
    torch.testing.assert_close(apart, together[:, order], atol=1e-10, rtol=0)


def test_scoring_changes_nothing_even_before_initialization(small: RealNVP) -> None:
    model = Dequantized(small, UniformDequantization(5))
    x = torch.randint(-2, 3, (6, 1, 4, 4), generator=generator(4))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    first = model.train().log_weights(x, 1, ExampleNoise(0, range(6))).total
    assert torch.equal(first, model.eval().log_weights(x, 1, ExampleNoise(0, range(6))).total)
    after = model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not any(value.any() for key, value in after.items() if key.endswith("initialized"))


def test_initialization_standardizes_the_first_batch_once() -> None:
    model = build_model("realnvp", SMALL, filters=4, blocks=1)
    x = torch.randint(-2, 0, (64, 1, 4, 4), generator=generator(4))
    model.initialize(x, generator())
    assert all(value.all() for key, value in model.state_dict().items() if key.endswith("initialized"))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    y = x + torch.rand(x.shape, generator=generator(1))
    z = model.density.latents(y)
    assert abs(z.std() - 1) < 0.1
    assert abs(z.mean()) < 0.1
    model.initialize(-x - 1, generator())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("space", "options"),
    [
        (Space.image(1, 28, 28), {"scales": 3}),
        (Space.image(3, 32, 32), {"fold": 2}),
        (Space.image(1, 8, 8, 17), {}),
        (Space.image(1, 8, 8, 65536, offset=-32768), {"scales": 1}),
        (Space.image(1, 7, 5, 2), {"scales": 1, "fold": 2}),
        (Space.image(3, 4, 4, 1024, offset=-512), {"preprocessing": "marginal"}),
    ],
)
def test_it_fits_any_size_and_depth(space: Space, options: dict[str, int]) -> None:
    model = build_model("realnvp", space, filters=4, blocks=1, **options)
    x = model.sample(2, generator())
    assert torch.equal(space.validate(x), x)
    assert model.log_weights(x, 2, generator()).total.isfinite().all()
    assert estimate_kind(model) == "bound"
    assert estimate_kind(model.density) == "exact"
    assert not can(model, "log_prob")


def test_low_temperature_draws_likelier_data(small: RealNVP) -> None:
    cold, warm = small.sample(200, generator(), temperature=0.5), small.sample(200, generator())
    assert small.latents(cold).std() < 0.6 < small.latents(warm).std()


def test_it_learns(randomize) -> None:
    """A few steps on a density far from uniform: better than uniform by a margin."""
    torch.manual_seed(0)
    model = build_model("realnvp", Space.image(1, 4, 4, 8), filters=8, blocks=1)
    x = torch.full((64, 1, 4, 4), 6)
    model.initialize(x, generator())
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(30):
        loss = -model.log_weights(x, 1, generator(step)).total.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.25 * model.space.uniform_nats


def test_impossible_spaces_and_options_are_named() -> None:
    with pytest.raises(UsageError, match="multiples of 2"):
        build_model("realnvp", Space.image(1, 7, 7))
    with pytest.raises(UsageError, match="wanted an image"):
        build_model("realnvp", Space("vector", (4,), 4))
    with pytest.raises(UsageError, match="did you mean 'logit'"):
        build_model("realnvp", Space.image(1, 8, 8), preprocessing="logits")
    with pytest.raises(UsageError, match="filter"):
        build_model("realnvp", Space.image(1, 8, 8), filter=3)
    assert list(inspect.signature(dequantized_realnvp).parameters)[:2] == ["space", "scales"]


def test_the_papers_cifar10_model_builds() -> None:
    recipe = load_recipe("cifar10-realnvp-paper")
    with torch.device("meta"):
        model = RealNVP(Space.image(3, 32, 32), **recipe.model.options)
    assert num_parameters(model) == 19_584_875
    couplings = [name for name, _ in model.named_modules() if name.endswith("network")]
    assert len(couplings) == 3 + 3 + 4
