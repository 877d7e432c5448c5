"""Annealed importance sampling where log p(x) is known, forward and both ways."""

from __future__ import annotations

import pytest
import torch

from codelength.errors import UsageError
from codelength.evaluation.annealed import AnnealingSchedule, anneal, bidirectional
from codelength.functional import log_mean_exp
from codelength.models.latent.linear_gaussian import LinearGaussianVAE
from codelength.models.registry import build_model
from codelength.randomness import ExampleNoise
from codelength.space import Space

N = 60
SCHEDULE = AnnealingSchedule(steps=150, chains=10, leapfrog=3)


@pytest.fixture(scope="module")
def model() -> LinearGaussianVAE:
    return LinearGaussianVAE(6, 3, seed=1).double()


def test_elbo_iwae_and_annealing_are_below_the_truth_and_annealing_close(model: LinearGaussianVAE) -> None:
    x = model.sample(N, torch.Generator().manual_seed(0))
    truth = model.exact_log_prob(x).detach()
    with torch.no_grad():
        weights = model.log_weights(x, 100, ExampleNoise(0, range(N))).total
    annealed = anneal(model, x, SCHEDULE)
    bounds = {"elbo": weights.mean(0), "iwae": log_mean_exp(weights), "ais": annealed.value}
    for name, bound in bounds.items():
        gap = truth - bound
        error = gap.std() / N**0.5
        assert gap.mean() > -3 * error, name
    assert abs((truth - bounds["ais"]).mean()) < 0.05
    assert (truth - bounds["elbo"]).mean() > 0.3
    assert annealed.kind == "estimate"
    assert 0.4 < annealed.acceptance.mean() < 0.95


def test_the_weights_have_the_right_mean(model: LinearGaussianVAE) -> None:
    """E w = p(x), also with few temperatures, where log w is far off."""
    x = model.sample(20, torch.Generator().manual_seed(5))
    rough = anneal(model, x, AnnealingSchedule(steps=6, chains=1500, leapfrog=2))
    truth = model.exact_log_prob(x).detach()
    assert (rough.log_weights.mean(0) - truth).mean() < -0.5
    ratio = (rough.log_weights - truth).exp()
    assert ((ratio.mean(0) - 1).abs() < 4.5 * ratio.std(0) / 1500**0.5).all()


def test_the_interval_of_simulated_data_holds_the_truth(model: LinearGaussianVAE) -> None:
    x, interval = bidirectional(model, N, SCHEDULE, seed=3)
    truth = model.exact_log_prob(x).detach()
    for gap in (truth - interval.lower, interval.upper - truth):
        assert gap.mean() > -3 * gap.std() / N**0.5
    assert abs((interval.upper - interval.lower).mean()) < 0.1
    assert interval.kind == interval.reverse.kind == "bound"


def test_a_reverse_run_that_starts_elsewhere_is_no_upper_bound(model: LinearGaussianVAE) -> None:
    """Negative control: from the prior instead of the posterior the "upper" end falls below the truth."""
    x = model.sample(N, torch.Generator().manual_seed(0))
    elsewhere = {"z": 3 * torch.randn(N, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)}
    wrong = anneal(model, x, AnnealingSchedule(steps=3, chains=4, leapfrog=1), posterior=elsewhere)
    gap = wrong.value - model.exact_log_prob(x).detach()
    assert gap.mean() < -3 * gap.std() / N**0.5


def test_a_datum_stands_alone(model: LinearGaussianVAE) -> None:
    x = model.sample(6, torch.Generator().manual_seed(0))
    short = AnnealingSchedule(steps=4, chains=2, leapfrog=2)
    together = anneal(model, x, short)
    alone = anneal(model, x[4:5], short, examples=[4])
    torch.testing.assert_close(alone.log_weights, together.log_weights[:, 4:5], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("system", ["vae", "iaf_vae", "draw"])
def test_it_bounds_every_latent_system(system: str) -> None:
    """Both ends on tiny networks with several layers: they meet."""
    options = {
        "vae": {"latents": 2, "network": "dense", "filters": 4},
        "iaf_vae": {"latents": 1, "filters": 3, "resolutions": 1},
        "draw": {"steps": 2, "latents": 1, "hidden": 4, "write": 2},
    }
    torch.manual_seed(0)
    model = build_model(system, Space.image(1, 2, 2, 2), **options[system]).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    _, interval = bidirectional(model, 24, AnnealingSchedule(steps=20, chains=4, leapfrog=3))
    gap = interval.upper - interval.lower
    assert gap.mean() > -3 * gap.std() / 24**0.5
    assert abs(gap.mean()) < 0.1
    assert all(parameter.grad is None for parameter in model.parameters())


def test_models_without_latents_and_empty_schedules_are_refused() -> None:
    with pytest.raises(UsageError, match="no latents"):
        anneal(build_model("uniform", Space.image(1, 2, 2, 2)), torch.zeros(1, 1, 2, 2).long(), AnnealingSchedule(2))
    with pytest.raises(UsageError, match="simulate"):
        bidirectional(build_model("uniform", Space.image(1, 2, 2, 2)), 1, AnnealingSchedule(2))
    with pytest.raises(UsageError, match="chains=0"):
        AnnealingSchedule(chains=0)
