"""The uniform model: exactly log2(levels) bits/dim."""

from __future__ import annotations

import math

import pytest
import torch

from codelength import Space, bits_per_dim, build_model
from codelength.models.autoregressive.stepwise import score_stepwise
from codelength.models.base import num_parameters


@pytest.mark.parametrize(
    ("space", "bits"),
    [
        (Space.image(1, 28, 28), 8.0),
        (Space.image(3, 32, 32), 8.0),
        (Space.image(1, 8, 8, 17), math.log2(17)),
        (Space.image(1, 4, 4, 65_536), 16.0),
        (Space("sequence", (10,), 256), 8.0),
        (Space("audio", (2, 5), 256, offset=-128), 8.0),
    ],
    ids=str,
)
def test_bits_per_dim_are_those_of_the_levels_exactly(space, bits):
    model = build_model("uniform", space)
    x = model.sample(4, torch.Generator().manual_seed(0))
    assert torch.equal(space.validate(x), x)
    assert bits_per_dim(-model.log_prob(x), space.num_dims).tolist() == [pytest.approx(bits, abs=1e-15)] * 4
    levels = x - space.offset if x.dim() > 2 else (x - space.offset).unsqueeze(1)
    torch.testing.assert_close(model.conditionals(x).log_prob(levels), model.log_prob(x))
    assert num_parameters(model) == 0


def test_one_step_scores_the_image():
    model = build_model("uniform", Space.image(3, 4, 4))
    x = model.sample(4, torch.Generator().manual_seed(0))
    torch.testing.assert_close(score_stepwise(model, x), model.log_prob(x))
