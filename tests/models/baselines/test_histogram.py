"""Histograms against counting by hand, enumeration, steps, samples."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from codelength import Space, build_model
from codelength.errors import CheckpointError, SpaceMismatchError, UsageError
from codelength.models.autoregressive.stepwise import score_stepwise
from codelength.run import load_tensors, load_weights, save_tensors

SMALL = Space.image(1, 2, 2, 3)
ALL_IMAGES = torch.tensor(list(itertools.product(range(3), repeat=4))).view(-1, 1, 2, 2)
SCOPES = ("position", "channel", "global")


def _data(space, count=50, seed=0):
    generator = torch.Generator().manual_seed(seed)
    top = torch.randint(1, space.levels + 1, (1, *space.sizes), generator=generator)
    return (torch.rand(count, *space.sizes, generator=generator) ** 2 * top).long() + space.offset


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("smoothing", ["kt", "add_one"])
def test_masses_sum_to_one(scope, smoothing):
    model = build_model("histogram", SMALL, scope=scope, smoothing=smoothing)
    model.fit(_data(SMALL))
    assert model.log_prob(ALL_IMAGES).exp().sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("scope", "index"), [("position", (0, 1, 1)), ("channel", (0,)), ("global", ())])
def test_masses_are_smoothed_frequencies(scope, index):
    space = Space.image(2, 2, 2, 5, offset=-2)
    x = _data(space)
    model = build_model("histogram", space, scope=scope, smoothing="add_one")
    model.fit(x)
    seen = x[(slice(None), *index)].flatten()
    probs = model.conditionals(x[:1]).channel(0, x[:1, :0]).probs()[0, 1, 1]
    wanted = [(int((seen == v - 2).sum()) + 1) / (len(seen) + 5) for v in range(5)]
    assert probs.tolist() == pytest.approx(wanted, abs=1e-15)


@pytest.mark.parametrize("scope", SCOPES)
def test_steps_agree_and_save_and_load(scope, tmp_path):
    space = Space.image(3, 3, 2, 7)
    model, again = (build_model("histogram", space, scope=scope) for _ in range(2))
    model.fit(_data(space))
    x = _data(space, 9, seed=1)
    save_tensors(model.state_dict(), tmp_path / "m.safetensors")
    load_weights(again, load_tensors(tmp_path / "m.safetensors"), "m")
    again.to(torch.float32)
    assert (again.log_prob(x) == model.log_prob(x)).all()
    assert score_stepwise(again, x).tolist() == pytest.approx(model.log_prob(x).tolist(), abs=1e-10)
    with pytest.raises(CheckpointError, match="another architecture"):
        load_weights(build_model("histogram", Space.image(3, 3, 2, 8)), model.state_dict(), "m")


def test_samples_follow_the_masses():
    model = build_model("histogram", SMALL)
    model.fit(_data(SMALL))
    x = model.sample(4000, torch.Generator().manual_seed(0))
    code_length = -model.log_prob(x)
    masses = model.log_prob(ALL_IMAGES)
    entropy = -(masses.exp() * masses).sum()
    assert abs(code_length.mean() - entropy) < 5 * code_length.std() / math.sqrt(len(x))
    # Negative control: uniform images do not.
    uniform = torch.randint(3, (4000, 1, 2, 2), generator=torch.Generator().manual_seed(0))
    assert abs(-model.log_prob(uniform).mean() - entropy) > 5 * code_length.std() / math.sqrt(len(x))


def test_a_second_fit_replaces_the_first():
    model = build_model("histogram", SMALL)
    model.fit(_data(SMALL, seed=1))
    model.fit(_data(SMALL))
    fresh = build_model("histogram", SMALL)
    fresh.fit(_data(SMALL))
    assert (model.log_prob(ALL_IMAGES) == fresh.log_prob(ALL_IMAGES)).all()


def test_errors():
    model = build_model("histogram", SMALL)
    with pytest.raises(UsageError, match="Histogram is not fitted"):
        model.log_prob(ALL_IMAGES)
    with pytest.raises(UsageError, match="no data"):
        model.fit(ALL_IMAGES[:0])
    with pytest.raises(SpaceMismatchError):
        model.fit(ALL_IMAGES + 1)
    with pytest.raises(UsageError, match="unknown condition 'label'"):
        model.fit(ALL_IMAGES, label=torch.zeros(81))
    with pytest.raises(UsageError, match="did you mean 'position'"):
        build_model("histogram", SMALL, scope="positions")
    with pytest.raises(UsageError, match="unknown smoothing"):
        build_model("histogram", SMALL, smoothing="none")
    with pytest.raises(UsageError, match="speaks of images"):
        build_model("histogram", Space("sequence", (4,), 3))
