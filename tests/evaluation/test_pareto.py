"""Pareto k-hat against draws of known shape."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from codelength.evaluation.pareto import fit_generalized_pareto, pareto_k_hat, tail_length


def _generalized_pareto(k: float, m: int, columns: int) -> torch.Tensor:
    u = torch.from_numpy(np.random.default_rng(0).random((m, columns)))
    return -u.log() if k == 0 else (u**-k - 1) / k


@pytest.mark.parametrize("k", [-0.3, 0.0, 0.3, 0.7, 1.2])
def test_shape_and_scale_of_exact_draws(k):
    m, columns = 500, 400
    fitted, sigma = fit_generalized_pareto(3 * _generalized_pareto(k, m, columns))
    # The estimator's standard deviation is about (1 + k) / sqrt(m); its bias is of order 1 / m.
    deviation = (1 + k) / math.sqrt(m)
    assert abs(float(fitted.mean()) - k) < 5 * deviation / math.sqrt(columns) + 10 / m
    assert float(fitted.std()) == pytest.approx(deviation, rel=0.25)
    assert float(sigma.mean()) == pytest.approx(3, rel=0.03)


@pytest.mark.parametrize("k", [0.3, 0.8])
def test_k_hat_of_pareto_weights(k):
    samples = 10_000
    weights = 1 + k * _generalized_pareto(k, samples, 50)  # u^-k: a Pareto tail of shape k
    log_weights = weights.log() - 500
    largest = log_weights.topk(tail_length(samples) + 1, dim=0).values
    k_hat = pareto_k_hat(largest, samples)
    assert abs(float(k_hat.mean()) - k) < 0.05
    torch.testing.assert_close(k_hat, pareto_k_hat(log_weights, samples))


def test_the_scale_of_weights_does_not_matter():
    log_weights = torch.randn(100, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(pareto_k_hat(log_weights, 100), pareto_k_hat(log_weights - 1e4, 100))


def test_few_constant_and_tied_weights():
    assert pareto_k_hat(torch.randn(24, 3), 20).isnan().all()
    assert torch.equal(pareto_k_hat(torch.full((101, 3), -7.0), 100), torch.zeros(3, dtype=torch.float64))
    tied = torch.zeros(100, 1)
    tied[0] = 5.0
    assert pareto_k_hat(tied, 100).isfinite().all()
