"""Bounds against a known log p: the K-sample bound rises with K and reaches it."""

from __future__ import annotations

import pytest
import torch

from codelength.functional import log_mean_exp
from codelength.models.base import estimate_kind
from codelength.models.latent.linear_gaussian import LinearGaussianVAE
from codelength.randomness import ExampleNoise


def weights_and_truth(k: int, n: int = 200, **options: float) -> tuple[torch.Tensor, torch.Tensor]:
    model = LinearGaussianVAE(6, 3, seed=1, **options).double()
    x = model.sample(n, torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model.log_weights(x, k, ExampleNoise(0, range(n))).total, model.exact_log_prob(x)


def test_bounds_rise_to_the_truth() -> None:
    weights, truth = weights_and_truth(1000)
    gaps = []
    for k in (1, 10, 100, 1000):
        gap = truth - log_mean_exp(weights.reshape(1000 // k, k, -1), dim=1).mean(0)
        error = gap.std() / len(gap) ** 0.5
        assert gap.mean() > -3 * error
        gaps.append(gap.mean())
    assert gaps == sorted(gaps, reverse=True)
    assert error < 0.003
    assert gaps[0] > 0.3
    assert gaps[-1] < 0.01


def test_the_gap_at_one_sample_is_the_kl_of_encoder_and_posterior() -> None:
    error = 0.5
    weights, truth = weights_and_truth(500, encoder_error=error)
    per_latent = 0.5 * ((1 + error) ** 2 + error**2 - 1) - torch.log(torch.tensor(1 + error))
    gap = (truth - weights).mean(0)
    assert abs(gap.mean() - 3 * per_latent) < 4 * gap.std() / len(gap) ** 0.5


def test_the_exact_encoder_leaves_no_gap() -> None:
    weights, truth = weights_and_truth(3, encoder_error=0.0)
    torch.testing.assert_close(weights, truth.expand(3, -1), atol=1e-5, rtol=0)  # parameters were float32 before


def test_a_missing_term_would_exceed_the_truth() -> None:
    model = LinearGaussianVAE(6, 3, seed=1).double()
    x = model.sample(50, torch.Generator().manual_seed(0))
    terms = model.log_weights(x, 200, ExampleNoise(0, range(50))).terms
    truth = model.exact_log_prob(x)
    without_prior = log_mean_exp(terms["log_likelihood"] + terms["minus_log_q"])
    without_k = torch.logsumexp(sum(terms.values()), dim=0)
    assert (without_prior - truth).mean() > 0.5
    assert (without_k - truth).mean() > 0.5


def test_samples_have_the_models_covariance() -> None:
    model = LinearGaussianVAE(3, 2, seed=4).double()
    x = model.sample(40_000, torch.Generator().manual_seed(0))
    covariance = model.weight @ model.weight.T + (2 * model.log_noise).exp() * torch.eye(3)
    torch.testing.assert_close(x.T.cov(), covariance.detach(), atol=0.05, rtol=0)


def test_it_is_a_bound_and_a_density() -> None:
    model = LinearGaussianVAE(3, 2)
    assert estimate_kind(model) == "bound"
    assert model.measure == "density"
    with pytest.raises(ValueError, match="latent_dims=4"):
        LinearGaussianVAE(3, 4)
