"""Channels one after the other: the head's options, and the steps of a masked network."""

from __future__ import annotations

import pytest
import torch

from codelength import Space, build_model
from codelength.errors import UsageError
from codelength.models.autoregressive.channel_order import SiteHead

COLOUR = Space.image(3, 3, 4, 5)
SYSTEMS = {
    "pixelcnn": {"filters": 6, "layers": 2, "first_kernel": 3},
    "gated_pixelcnn": {"filters": 6, "layers": 2, "first_kernel": 3},
    "pixelrnn": {"units": 4, "layers": 2, "first_kernel": 3},
}


def _model(system, randomize, **options):
    return randomize(build_model(system, COLOUR, **SYSTEMS[system], pixels="categorical", **options).double().eval())


def _levels(n=2, seed=0):
    return torch.randint(5, (n, 3, 3, 4), generator=torch.Generator().manual_seed(seed))


def test_masks_are_chosen_where_the_likelihood_does_not_join_channels():
    def groups(space, *options):
        return SiteHead(space, *options).groups

    assert groups(COLOUR, None, None, None, None) == 1
    assert groups(COLOUR, None, 4, False, None) == 1
    assert groups(COLOUR, "categorical", None, None, None) == 3
    assert groups(COLOUR, "categorical", None, None, False) == 1
    assert groups(COLOUR, "logistic_mixture", 4, None, True) == 3
    assert groups(Space.image(2, 2, 2, 2), None, None, None, None) == 2
    assert groups(Space.image(1, 2, 2), "categorical", None, None, True) == 1


def test_options_that_exclude_each_other_are_refused():
    with pytest.raises(UsageError, match="choose one"):
        SiteHead(COLOUR, None, 2, True, True)
    with pytest.raises(UsageError, match=r"65536 levels.*'logistic_mixture'"):
        SiteHead(Space.image(1, 4, 4, 65536), "categorical", None, None, None)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_step_recomputes_what_it_was_told_anew(system, randomize):
    """Told one red and then another, green's and blue's masses are those of the parallel pass with the latter."""
    model, x, other = _model(system, randomize), _levels(), _levels(seed=1)
    state, values = model.init_state(2), None
    for positions in model.schedule:
        distribution, state = model.step(state, values)
        values, wrong = positions.gather(x), positions.gather(other)
        for c in (2, 1):
            distribution.channel(c, wrong)
        for c in (2, 0, 1):
            found = distribution.channel(c, values).probs()
            expected = model.conditionals(x).channel(c, x[:, :c]).probs()
            expected = expected[:, positions.rows, positions.columns]
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_caller_need_not_ask_for_every_channel(system, randomize):
    model, x = _model(system, randomize), _levels()
    state, values = model.init_state(2), None
    for positions in model.schedule:
        distribution, state = model.step(state, values)
        values = positions.gather(x)
    last = distribution.log_prob_per_dim(values)
    expected = model.conditionals(x).log_prob_per_dim(x)[:, :, positions.rows, positions.columns]
    torch.testing.assert_close(last, expected, rtol=0, atol=1e-12)


def test_a_distribution_serves_until_the_next_step(randomize):
    model, x = _model("pixelcnn", randomize), _levels()
    distribution, state = model.step(model.init_state(2), None)
    model.step(state, model.schedule[0].gather(x))
    with pytest.raises(UsageError, match="until the next step"):
        distribution.channel(1, model.schedule[0].gather(x))


def test_completion_keeps_the_upper_rows(randomize):
    model, x = _model("pixelcnn", randomize), _levels(4)
    completed = model.sample(4, torch.Generator().manual_seed(0), given=x, rows=2)
    assert torch.equal(completed[:, :, :2], x[:, :, :2])
    assert not torch.equal(completed[:, :, 2:], x[:, :, 2:])
