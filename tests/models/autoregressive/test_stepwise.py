"""Sampling loops: completion, temperature, and what they refuse."""

from __future__ import annotations

import pytest
import torch

from codelength import Space, build_model
from codelength.errors import UsageError

SPACE = Space.image(1, 4, 4, 5, offset=10)


def _models(randomize):
    options = {
        "pixelcnn_pp": {"filters": 4, "blocks": 1, "stages": 2, "components": 2},
        "made": {"hidden": [20], "components": 2},
        "mean_field": {"components": 2},
    }
    return [randomize(build_model(system, SPACE, **o).eval()) for system, o in options.items()]


def test_completion_keeps_the_rows_given(randomize):
    given = torch.randint(10, 15, (6, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    for model in _models(randomize):
        for rows in (0, 2, 4):
            x = model.sample(6, torch.Generator().manual_seed(1), given=given, rows=rows)
            assert torch.equal(x[:, :, :rows], given[:, :, :rows])
            assert torch.equal(SPACE.validate(x), x)
            assert rows == 4 or not torch.equal(x[:, :, rows:], given[:, :, rows:])


def test_completion_follows_the_conditional_of_the_rows_given(randomize):
    """A two-row image of two levels: frequencies of the lower row given the upper, within 5 standard errors."""
    space, n = Space.image(1, 2, 2, 2), 4000
    model = randomize(build_model("made", space, hidden=[12]).double().eval(), scale=1.0)
    given = torch.tensor([[1, 0], [0, 0]]).expand(n, 1, 2, 2)
    x = model.sample(n, torch.Generator().manual_seed(0), given=given, rows=1)
    lower = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    whole = torch.stack([torch.tensor([[1, 0], row.tolist()]) for row in lower]).unsqueeze(1)
    expected = model.log_prob(whole).softmax(0)
    for row, p in zip(lower, expected, strict=True):
        frequency = (x[:, 0, 1] == row).all(1).double().mean()
        assert abs(frequency - p) <= 5 * (p * (1 - p) / n).sqrt()


def test_an_order_that_does_not_start_with_the_rows_cannot_complete_them():
    model = build_model("made", SPACE, hidden=[8], ordering="random", components=1)
    given = torch.full((2, 1, 4, 4), 10)
    with pytest.raises(UsageError, match="raster"):
        model.sample(2, torch.Generator(), given=given, rows=2)


def test_misuse_is_refused(randomize):
    model = _models(randomize)[1]
    with pytest.raises(UsageError, match="wanted n=3"):
        model.sample(3, torch.Generator(), given=torch.full((2, 1, 4, 4), 10), rows=2)
    with pytest.raises(UsageError, match="no data given"):
        model.sample(3, torch.Generator(), rows=2)


def test_temperature_zero_is_one_image(randomize):
    for model in _models(randomize):
        cold = model.sample(5, torch.Generator().manual_seed(0), temperature=0.0)
        assert (cold == cold[:1]).all()


def test_low_temperatures_give_likelier_images(randomize):
    model = randomize(build_model("made", SPACE, hidden=[20], pixels="categorical").eval(), scale=1.0)
    cool, warm = (
        model.log_prob(model.sample(200, torch.Generator().manual_seed(2), temperature=t)).mean() for t in (0.3, 1.0)
    )
    assert cool > warm
