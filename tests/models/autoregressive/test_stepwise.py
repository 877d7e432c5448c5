"""Sampling loops: completion, temperature, and what they refuse."""

from __future__ import annotations

import itertools

import pytest
import torch

from codelength import Space, build_model
from codelength.errors import UsageError
from codelength.models.autoregressive.stepwise import is_raster
from codelength.models.base import Positions

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


def _completion_error(model, upper, n: int) -> float:
    """Largest distance of the frequencies of completions from P(rest | upper), in standard errors.

    Args:
        model: Of one channel and two rows.
        upper: Its upper row, (W,).
        n: Completions drawn.
    """
    width = len(upper)
    given = torch.stack([upper, torch.zeros_like(upper)]).expand(n, 1, 2, width)
    x = model.sample(n, torch.Generator().manual_seed(0), given=given, rows=1)
    assert torch.equal(x[:, 0, 0], upper.expand(n, width))
    lower = torch.tensor(list(itertools.product(range(model.space.levels), repeat=width)))
    whole = torch.stack([upper.expand_as(lower), lower], dim=1).unsqueeze(1)
    with torch.no_grad():
        expected = model.log_prob(whole).softmax(0)
    places = model.space.levels ** torch.arange(width - 1, -1, -1)
    counts = torch.bincount((x[:, 0, 1] * places).sum(1), minlength=len(lower))
    return float(((counts / n - expected).abs() / (expected * (1 - expected) / n).sqrt()).max())


@pytest.fixture
def wavefront(randomize):
    """A model whose second row begins before its first one ends."""
    space = Space.image(1, 2, 5, 2)
    options = {"rows": 2, "reach": 2, "width": 12, "layers": 2, "pixels": "logistic_mixture", "components": 2}
    return randomize(build_model("causal_window", space, **options).double().eval(), scale=1.0)


def test_completion_along_wavefronts_is_exact(wavefront):
    order = [(int(r), int(c)) for p in wavefront.schedule for r, c in zip(p.rows, p.columns, strict=True)]
    assert order.index((1, 0)) < order.index((0, 4))
    assert wavefront.raster_causal
    assert not is_raster(wavefront.schedule)
    assert _completion_error(wavefront, torch.tensor([1, 0, 0, 1, 1]), 20_000) < 5


def test_a_false_promise_of_raster_causality_gives_wrong_completions(randomize, monkeypatch):
    """Control: the same walk over a model whose given sites depend on drawn ones."""
    options = {"hidden": [40], "ordering": "random", "ordering_seed": 1}
    model = randomize(build_model("made", Space.image(1, 2, 5, 2), **options).double().eval(), scale=1.0)
    upper = torch.tensor([1, 0, 0, 1, 1])
    with pytest.raises(UsageError, match="raster"):
        _completion_error(model, upper, 10)
    monkeypatch.setattr(type(model), "raster_causal", True)
    assert _completion_error(model, upper, 20_000) > 8


def test_given_rows_of_a_wavefront_cost_no_generator_where_nothing_is_drawn(wavefront):
    given = torch.zeros((3, 1, 2, 5), dtype=torch.long)
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert torch.equal(wavefront.sample(3, generator, given=given, rows=2), given)
    assert torch.equal(generator.get_state(), before)


def test_raster_schedules_are_told_from_others():
    def steps(*groups):
        return [Positions(*torch.tensor(group).T) for group in groups]

    assert is_raster(steps([[0, 0]], [[0, 1]], [[1, 0]]))
    assert is_raster(steps([[0, 0], [0, 1]], [[1, 0], [1, 1]]))
    assert is_raster(steps([[1, 1], [0, 0], [0, 1], [1, 0]]))
    assert not is_raster(steps([[0, 1]], [[0, 0]]))
    assert not is_raster(steps([[0, 0], [1, 0]], [[0, 1], [1, 1]]))


def test_a_pass_a_site_draws_the_same_images(randomize):
    """Sampling from the parallel pass, one site at a time, with the generator of the steps."""
    models = {
        "pixelcnn_pp": {"filters": 4, "blocks": 1, "stages": 2, "components": 2, "class_conditional": True},
        "made": {"hidden": [20], "components": 2, "class_conditional": True},
    }
    space, label = Space.image(3, 4, 4, 7, conditions={"label": 3}), torch.tensor([2, 0, 1, 1])
    for system, options in models.items():
        model = randomize(build_model(system, space, **options).double().eval())
        generator, x = torch.Generator().manual_seed(4), torch.zeros((4, 3, 4, 4), dtype=torch.long)
        for positions in model.schedule:
            with torch.no_grad():
                outputs = model.ordered.outputs(x, label) if system == "made" else model.outputs(x, label)
            site = outputs[:, :, positions.rows, positions.columns]
            positions.scatter(x, model.likelihood(site).sample(generator=generator))
        assert torch.equal(model.sample(4, torch.Generator().manual_seed(4), label=label), x)


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
