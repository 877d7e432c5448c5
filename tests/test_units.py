"""Nats to bits: the one conversion, and a uniform model scores log2(levels)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from codelength.space import Space
from codelength.units import bits, bits_per_dim, perplexity


@pytest.mark.parametrize(("channels", "levels"), [(1, 256), (3, 256), (1, 17), (1, 2), (4, 65536)])
def test_uniform_model(channels, levels):
    space = Space.image(channels, 8, 8, levels)
    assert bits_per_dim(space.uniform_nats, space.num_dims) == pytest.approx(math.log2(levels), rel=1e-15)


def test_types_are_kept():
    assert isinstance(bits_per_dim(np.ones(3), 2), np.ndarray)
    converted = bits_per_dim(torch.ones(3, dtype=torch.float64), 2)
    assert converted.dtype == torch.float64
    assert float(converted[0]) == pytest.approx(0.5 / math.log(2))
    assert bits(3 * math.log(2)) == pytest.approx(3)


def test_denominators_must_be_positive():
    with pytest.raises(ValueError, match="num_dims=0"):
        bits_per_dim(1.0, 0)
    with pytest.raises(ValueError, match="count=0"):
        perplexity(1.0, 0)
