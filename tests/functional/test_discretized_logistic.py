"""The discretized logistic: normalized for any parameters, and equal to the published formula where that is accurate."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from codelength.functional import discretized_logistic_cdf, discretized_logistic_log_mass, log_scale_floor

LEVELS = [2, 3, 17, 256, 65_536]
# Means inside and far outside [−1, 1]; scales from the floor to a thousand times the range.
MEANS = [-50.0, -1.3, -1.0, -0.2, 0.0, 0.734, 1.0, 4.0, 1000.0]
LOG_SCALES = ["floor", -5.0, -2.0, 0.0, 3.0, 7.0]


def _parameters(levels: int) -> tuple[Tensor, Tensor]:
    scales = torch.tensor([log_scale_floor(levels) if s == "floor" else s for s in LOG_SCALES], dtype=torch.float64)
    means = torch.tensor(MEANS, dtype=torch.float64)
    return means.repeat_interleave(len(scales)), scales.repeat(len(means))


def _published(value: Tensor, mean: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """The released code's formula: difference of two sigmoids, density at the bin's centre where it is small."""
    half = 1 / (levels - 1)
    centered = 2 * value.double() * half - 1 - mean
    plus, minus = (centered + half) / log_scale.exp(), (centered - half) / log_scale.exp()
    delta = torch.sigmoid(plus) - torch.sigmoid(minus)
    middle = centered / log_scale.exp()
    density = middle - log_scale - 2 * torch.nn.functional.softplus(middle) - math.log((levels - 1) / 2)
    inner = torch.where(delta > 1e-5, delta.clamp(min=1e-12).log(), density)
    lower = plus - torch.nn.functional.softplus(plus)
    upper = -torch.nn.functional.softplus(minus)
    return torch.where(value == 0, lower, torch.where(value == levels - 1, upper, inner))


@pytest.mark.parametrize("levels", LEVELS)
def test_masses_sum_to_one(levels):
    mean, log_scale = _parameters(levels)
    log_mass = discretized_logistic_log_mass(torch.arange(levels), mean[:, None], log_scale[:, None], levels)
    total = log_mass.exp().sum(1)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-9)


@pytest.mark.parametrize("levels", [3, 256])
def test_without_open_edges_mass_is_lost(levels):
    """Control: edge bins as wide as the others leave the mass beyond them out."""
    mean, log_scale = torch.tensor(0.9, dtype=torch.float64), torch.tensor(-1.0, dtype=torch.float64)
    edges = (2 * torch.arange(levels + 1).double() - 1) / (levels - 1) - 1
    closed = torch.sigmoid((edges - mean) / log_scale.exp()).diff()
    assert closed.sum() < 0.9


@pytest.mark.parametrize("levels", LEVELS)
def test_cdf_is_the_sum_of_the_masses(levels):
    mean, log_scale = _parameters(levels)
    value = torch.arange(levels)
    table = discretized_logistic_log_mass(value, mean[:, None], log_scale[:, None], levels).exp().cumsum(1)
    cdf = discretized_logistic_cdf(value, mean[:, None], log_scale[:, None], levels)
    torch.testing.assert_close(cdf, table, rtol=0, atol=1e-9)
    assert (cdf[:, -1] == 1).all()
    assert (discretized_logistic_cdf(torch.tensor(-1), mean, log_scale, levels) == 0).all()
    assert (discretized_logistic_cdf(torch.tensor(levels + 3), mean, log_scale, levels) == 1).all()
    assert (cdf.diff(dim=1) >= 0).all()


def test_agrees_with_the_published_formula_where_it_is_accurate():
    """To 1e-5 bits where a bin holds more than 1e-5 (the branch that is exact) and round-off does not reach it."""
    value = torch.arange(256)
    generator = torch.Generator().manual_seed(0)
    mean = torch.rand(2000, 1, generator=generator, dtype=torch.float64) * 3 - 1.5
    log_scale = torch.rand(2000, 1, generator=generator, dtype=torch.float64) * 7 - 6.9
    ours = discretized_logistic_log_mass(value, mean, log_scale, 256)
    published = _published(value, mean, log_scale, 256)
    accurate = (ours.exp() > 1.01e-5) | (value == 0) | (value == 255)
    assert accurate.double().mean() > 0.3
    assert ((ours - published).abs() / math.log(2))[accurate].max() < 1e-5


def test_the_published_formula_is_not_normalized_where_bins_are_wide():
    """Control: its density branch misses the mass of narrow logistics, by more than our tolerance."""
    value, mean = torch.arange(256), torch.tensor(0.0039, dtype=torch.float64)
    log_scale = torch.tensor(-7.0, dtype=torch.float64)
    published = _published(value, mean, log_scale, 256)
    ours = discretized_logistic_log_mass(value, mean, log_scale, 256)
    assert (published - ours).abs().max() > 0.1


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_gradients_match_finite_differences(levels):
    generator = torch.Generator().manual_seed(1)
    value = torch.randint(levels, (12,), generator=generator)
    value[:2] = torch.tensor([0, levels - 1])
    mean = (torch.rand(12, generator=generator, dtype=torch.float64) * 3 - 1.5).requires_grad_()
    log_scale = (torch.rand(12, generator=generator, dtype=torch.float64) * 4 - 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda m, s: discretized_logistic_log_mass(value, m, s, levels), (mean, log_scale))


@pytest.mark.parametrize("levels", [2, 256])
def test_float32_is_finite_with_finite_gradients_at_the_extremes(levels):
    mean, log_scale = (p.float().requires_grad_() for p in _parameters(levels))
    for value in (0, 1, levels // 2, levels - 1):
        log_mass = discretized_logistic_log_mass(torch.tensor(value), mean, log_scale, levels)
        assert log_mass.isfinite().all()
        assert (log_mass <= 0).all()
        gradients = torch.autograd.grad(log_mass.sum(), (mean, log_scale))
        assert all(g.isfinite().all() for g in gradients)


def test_float32_agrees_with_float64():
    generator = torch.Generator().manual_seed(2)
    value = torch.randint(256, (5000,), generator=generator)
    mean = torch.rand(5000, generator=generator, dtype=torch.float64) * 2 - 1
    log_scale = torch.rand(5000, generator=generator, dtype=torch.float64) * 5 - 5
    exact = discretized_logistic_log_mass(value, mean, log_scale, 256)
    short = discretized_logistic_log_mass(value, mean.float(), log_scale.float(), 256)
    # An edge's argument carries a relative error of a few 2^-24 and the log mass moves as fast as the argument.
    assert ((short - exact).abs() / (1 + exact.abs())).max() < 2e-5


@pytest.mark.parametrize("levels", LEVELS)
def test_float32_masses_sum_to_one(levels):
    mean, log_scale = (p.float() for p in _parameters(levels))
    log_mass = discretized_logistic_log_mass(torch.arange(levels), mean[:, None], log_scale[:, None], levels)
    assert (log_mass.double().exp().sum(1) - 1).abs().max() < 1e-6


def test_on_the_unit_interval_float32_masses_do_not_sum_to_one():
    """Control: the same identity with values scaled to [−1, 1] first."""
    value, mean, log_scale = torch.arange(65_536), torch.tensor(0.7), torch.tensor(-9.0)
    half_bin = 1 / 65_535
    middle = (value.float() * (2 * half_bin) - 1 - mean) * torch.exp(-log_scale)
    width = 2 * half_bin * torch.exp(-log_scale)
    upper, lower = (torch.nn.functional.logsigmoid(edge) for edge in (middle + width / 2, width / 2 - middle))
    total = (upper + lower + torch.log(-torch.expm1(-width))).double().exp().sum()
    assert abs(total - 1) > 5e-6
