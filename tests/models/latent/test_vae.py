"""VAE: a bound on log P(x) whose weights have mean P(x)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from codelength.errors import SpaceMismatchError, UsageError
from codelength.functional import log_mean_exp
from codelength.models.base import can, estimate_kind
from codelength.models.latent.vae import VAE
from codelength.models.registry import build_model
from codelength.randomness import ExampleNoise
from codelength.space import Space
from codelength.units import bits_per_dim

TINY = Space.image(1, 2, 2, 2)
EVERY = torch.tensor(list(itertools.product(range(2), repeat=4))).reshape(-1, 1, 2, 2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def tiny(randomize: Callable[..., nn.Module]) -> VAE:
    """One latent, 16 images: P(x) by quadrature over the latent."""
    model = VAE(TINY, latents=1, network="dense", filters=4)
    return randomize(model, seed=2, scale=0.7).double()


def exact_log_prob(model: VAE) -> Tensor:
    """log P of all 16 images by a fine trapezoidal rule over z in [−9, 9], (16,)."""
    z = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    with torch.no_grad():
        prior = torch.exp(-0.5 * z**2) * ((z[1] - z[0]) / math.sqrt(2 * math.pi))
        parameters = model.decoder(z[:, None])
        likelihood = torch.stack(
            [model.likelihood(parameters).log_prob(x.expand(len(z), -1, -1, -1)) for x in EVERY], dim=1
        )
        return (prior[:, None] * likelihood.exp()).sum(0).log()


def test_bounds_are_ordered_below_the_truth(tiny: VAE) -> None:
    truth = exact_log_prob(tiny)
    assert abs(truth.exp().sum() - 1) < 1e-10
    draws = 20_000
    with torch.no_grad():
        weights = tiny.log_weights(EVERY, draws, generator()).total
    previous = torch.full((16,), -torch.inf)
    for k in (1, 10, 100):
        bounds = log_mean_exp(weights.reshape(draws // k, k, 16), dim=1)
        mean, error = bounds.mean(0), bounds.std(0) / (draws // k) ** 0.5
        assert (mean < truth + 3 * error).all()
        assert (mean > previous - 3 * error).all()
        previous = mean
    assert (weights.mean(0) < truth).any()


def test_weights_are_unbiased(tiny: VAE) -> None:
    ratio = (tiny.log_weights(EVERY, 50_000, generator(1)).total - exact_log_prob(tiny)).exp()
    assert ((ratio.mean(0) - 1).abs() < 4 * ratio.std(0) / 50_000**0.5).all()


@pytest.mark.parametrize("missing", ["log_prior", "minus_log_q", "log_likelihood"])
def test_a_missing_term_would_be_seen(tiny: VAE, missing: str) -> None:
    terms = tiny.log_weights(EVERY, 2000, generator(1)).terms
    ratio = (sum(value for name, value in terms.items() if name != missing) - exact_log_prob(tiny)).exp()
    assert ((ratio.mean(0) - 1).abs() > 6 * ratio.std(0) / 2000**0.5).sum() > 8


def test_the_sampled_kl_is_the_analytic_one(tiny: VAE) -> None:
    terms = tiny.log_weights(EVERY, 20_000, generator()).terms
    assert list(terms) == ["log_likelihood", "log_prior", "minus_log_q"]
    sampled = -(terms["log_prior"] + terms["minus_log_q"])
    mean, log_std = tiny.encode(EVERY)
    analytic = (0.5 * (mean**2 + (2 * log_std).exp() - 1) - log_std).sum(1)
    assert ((sampled.mean(0) - analytic).abs() < 4 * sampled.std(0) / 20_000**0.5).all()


def test_terms_sum_to_the_total(tiny: VAE) -> None:
    weights = tiny.log_weights(EVERY, 3, generator())
    assert torch.equal(weights.total, sum(weights.terms.values()))
    assert weights.total.shape == (3, 16)


def test_every_datum_and_sample_stands_alone(tiny: VAE) -> None:
    together = tiny.log_weights(EVERY, 6, ExampleNoise(0, range(16))).total
    apart = tiny.log_weights(EVERY[[9, 2]], 2, ExampleNoise(0, [9, 2], first_sample=3)).total
    torch.testing.assert_close(apart, together[3:5, [9, 2]], atol=1e-12, rtol=0)


def test_samples_follow_the_mass(tiny: VAE) -> None:
    n = 10_000
    x = tiny.sample(n, generator(3)).flatten(1)
    counts = torch.bincount((x * torch.tensor([8, 4, 2, 1])).sum(1), minlength=16).double()
    probs = exact_log_prob(tiny).exp()
    assert ((counts - n * probs).abs() < 4.5 * (n * probs).sqrt()).all()


@pytest.mark.parametrize(
    ("space", "options"),
    [
        (Space.image(1, 28, 28), {}),
        (Space.image(3, 32, 32), {"spatial": True, "latents": 4, "components": 3}),
        (Space.image(3, 4, 4, 1024, offset=-512), {"downsamplings": 1, "blocks": 0}),
        (Space.image(1, 8, 8, 17), {"pixels": "categorical"}),
        (Space.image(1, 8, 8, 2), {"network": "dense", "blocks": 2}),
    ],
)
def test_it_starts_sane_at_any_size_and_depth(space: Space, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    model = build_model("vae", space, filters=8, **options)
    x = torch.randint(0, space.levels, (3, *space.sizes), generator=generator()) + space.offset
    weights = model.log_weights(x, 2, generator())
    kl = -(weights.terms["log_prior"] + weights.terms["minus_log_q"])
    assert (kl < 3 * math.prod(model.latent_shape)).all(), "the encoder starts a few bits from the prior"
    bits = bits_per_dim(-weights.terms["log_likelihood"], space.num_dims)
    assert (bits < math.log2(space.levels) + 1).all()
    samples = model.sample(2, generator())
    assert torch.equal(space.validate(samples), samples)
    assert estimate_kind(model) == "bound"
    assert not can(model, "log_prob")


@pytest.mark.parametrize("network", ["conv", "dense"])
def test_it_learns(network: str) -> None:
    """Two images, many pixels: one latent tells which, and the bound approaches one bit."""
    torch.manual_seed(0)
    model = build_model("vae", Space.image(1, 4, 4, 2), latents=2, filters=16, network=network, downsamplings=1)
    x = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)]).long().repeat(32, 1, 1, 1)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(150):
        loss = -model.log_weights(x, 1, generator(step)).total.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.3 * model.space.uniform_nats
    assert loss > 0.9 * math.log(2)


def test_scoring_changes_nothing(tiny: VAE) -> None:
    before = {key: value.clone() for key, value in tiny.state_dict().items()}
    tiny.train().log_weights(EVERY, 1, generator())
    assert all(torch.equal(before[key], value) for key, value in tiny.state_dict().items())


def test_bad_data_and_options_are_named(tiny: VAE) -> None:
    with pytest.raises(SpaceMismatchError, match="dtype"):
        tiny.log_weights(EVERY.double(), 1, generator())
    with pytest.raises(SpaceMismatchError, match="reach"):
        tiny.log_weights(EVERY + 1, 1, generator())
    with pytest.raises(UsageError, match="multiples of 4"):
        build_model("vae", Space.image(1, 6, 6))
    with pytest.raises(UsageError, match="downsamplings=0"):
        build_model("vae", Space.image(1, 6, 6), downsamplings=0)
    with pytest.raises(UsageError, match="did you mean 'conv'"):
        build_model("vae", Space.image(1, 8, 8), network="con")
    with pytest.raises(UsageError, match="no map"):
        build_model("vae", Space.image(1, 8, 8), network="dense", spatial=True)
