"""Bit planes: they add up to the code length, and say what is known of distributions that can be worked out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from codelength.pixels import make_likelihood
from codelength.pixels.categorical import Categorical
from codelength.report.collect import collect
from codelength.report.planes import bit_planes, plane_bits, plane_count
from codelength.space import Space
from codelength.units import bits_per_dim


def test_planes_sum_to_the_code_length():
    space = Space.image(3, 4, 4)
    likelihood = make_likelihood("logistic_mixture", space, components=3)
    torch.manual_seed(0)
    distribution = likelihood(torch.randn(5, likelihood.num_parameters, 4, 4))
    x = torch.randint(0, 256, (5, 3, 4, 4))
    planes = plane_bits(distribution, x)
    assert planes.shape == (8,)
    total = bits_per_dim(float(-distribution.log_prob(x).mean()), space.num_dims)
    np.testing.assert_allclose(planes.sum(), total, rtol=1e-6)
    other = plane_bits(distribution, x.flip(0))
    assert abs(other.sum() - total) > 1e-3  # another datum costs otherwise


def test_planes_of_a_known_distribution():
    # Levels 0..7: the highest bit is known, the middle one is even, the lowest is 0 with probability 3/4.
    masses = torch.tensor([3 / 8, 1 / 8, 3 / 8, 1 / 8, 0, 0, 0, 0], dtype=torch.float64)
    distribution = Categorical(masses.log().reshape(1, 1, 8, 1, 1).expand(4, 1, 8, 2, 2))
    x = torch.tensor([0, 0, 0, 1]).repeat(4).reshape(4, 1, 2, 2)
    planes = plane_bits(distribution, x)
    entropy = -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25))
    np.testing.assert_allclose(planes, [0, 1, entropy], atol=1e-9)


@pytest.mark.parametrize(("levels", "planes"), [(2, 0), (17, 0), (4, 2), (256, 8), (2**16, 16)])
def test_levels_with_planes(levels, planes):
    assert plane_count(levels) == planes


def test_table(colour_run, runs):
    table = bit_planes(collect([colour_run])[0])
    assert [column.heading for column in table.columns][1:] == [f"bit of {2**b}" for b in range(7, -1, -1)] + ["all"]
    costs = [cell.sort for cell in table.rows[0][1:]]
    assert sum(costs[:-1]) == pytest.approx(costs[-1])
    assert bit_planes(collect(runs)[0]) is None  # 17 levels have no planes
