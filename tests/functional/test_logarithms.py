"""Sums and differences of probabilities in log space."""

from __future__ import annotations

import math

import pytest
import torch

from codelength.functional import log1mexp, log_mean_exp


@pytest.mark.parametrize(
    ("x", "expected"), [(1e-300, math.log(1e-300)), (math.log(2), -math.log(2)), (40.0, -math.exp(-40.0))]
)
def test_log1mexp_is_accurate_at_both_ends(x, expected):
    assert log1mexp(torch.tensor(x, dtype=torch.float64)).item() == pytest.approx(expected, rel=1e-12)


def test_the_naive_formula_is_not():
    """Control: 1 − exp(−x) loses a small x."""
    assert math.log(1 - math.exp(-1e-12)) != pytest.approx(math.log(1e-12), rel=1e-9)


def test_log1mexp_has_finite_gradients():
    x = torch.tensor([1e-30, 0.1, 0.69, 0.7, 5.0, 80.0], requires_grad=True)
    log1mexp(x).sum().backward()
    assert x.grad.isfinite().all()
    assert torch.autograd.gradcheck(log1mexp, torch.tensor([0.1, 0.6, 0.8, 3.0], dtype=torch.float64).requires_grad_())


def test_log_mean_exp_averages_probabilities_not_logarithms():
    log_weights = torch.tensor([[0.2, 0.4], [0.8, 0.2]], dtype=torch.float64).log()
    torch.testing.assert_close(log_mean_exp(log_weights).exp(), torch.tensor([0.5, 0.3], dtype=torch.float64))
    torch.testing.assert_close(log_mean_exp(log_weights, dim=1).exp(), torch.tensor([0.3, 0.5], dtype=torch.float64))
    assert (log_mean_exp(log_weights) > log_weights.mean(0)).all()


def test_log_mean_exp_of_tiny_probabilities():
    torch.testing.assert_close(log_mean_exp(torch.tensor([-5000.0, -5000.0])), torch.tensor(-5000.0))
