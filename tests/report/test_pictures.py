"""Maps of bits add up to the code length; items are the ones that the records name; samples are drawn, not chosen."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from codelength.data import load_data
from codelength.errors import UsageError
from codelength.models.base import LikelihoodModel
from codelength.report.collect import collect, colours, load_run_data, tightest, unique_names
from codelength.report.draw import check_conditions, draw_samples
from codelength.report.pictures import bit_maps, bits_of, channel_costs, choose_items, drawable, extremes
from codelength.space import Space


def test_bits_of_dims_add_up_to_the_code_length(runs):
    model = runs[1].load_model()
    x = load_data("digits").split("test").batch(slice(0, 5))
    found = bits_of(model, x, {})
    with torch.no_grad():
        nats = -model.log_prob(x).double().numpy()
    assert found.per_dim.shape == (5, 1, 8, 8)
    assert np.allclose(found.per_dim.sum((1, 2, 3)), nats / math.log(2), rtol=1e-5)
    assert np.allclose(found.per_site.sum((1, 2)), nats / math.log(2), rtol=1e-5)


def test_bounds_have_no_map(runs):
    assert bits_of(runs[2].load_model(), load_data("digits").split("test").batch(slice(0, 2)), {}) is None


def test_maps_of_the_exact_runs_only(runs):
    (group,) = collect(runs)
    (gallery,) = bit_maps(group)
    labels = [picture.label for picture in gallery.pictures]
    assert labels[0] == "data"
    assert {label.split(":")[0] for label in labels[1:]} == {"mean_field", "made"}


def test_channel_costs_add_up(colour_run):
    (group,) = collect([colour_run])
    ((measured, costs),) = channel_costs(group)
    assert len(costs) == 3
    # All 10 test images are used, so that the mean is the record's.
    assert costs.mean() == pytest.approx(measured.record.bits_per_dim, rel=1e-5)


def test_extremes_are_those_of_the_record(runs):
    (group,) = collect(runs)
    (gallery,) = extremes(group, n=3)
    nats = group.measured[0].evaluation.per_example
    order = np.argsort(nats, kind="stable")
    assert gallery.pictures[0].label.endswith("items " + ", ".join(map(str, order[:3])))
    assert gallery.pictures[1].label.endswith("items " + ", ".join(map(str, order[::-1][:3])))


def test_choice_is_a_function_of_the_names():
    assert choose_items(100, 5, "a").tolist() == choose_items(100, 5, "a").tolist()
    assert choose_items(100, 5, "a").tolist() != choose_items(100, 5, "b").tolist()
    assert choose_items(3, 5, "a").tolist() == [0, 1, 2]


def test_drawable():
    assert drawable(Space.image(3, 4, 4))
    assert not drawable(Space.image(1, None, 4))
    assert not drawable(Space.image(2, 4, 4))
    assert not drawable(Space("sequence", (4,), 4))


def test_groups_rank_and_difference(runs, evaluation):
    (group,) = collect(runs)
    values = [m.record.bits_per_dim for m in group.measured]
    assert values == sorted(values)
    assert group.measured[0].difference is None
    for m in group.measured[1:]:
        assert m.difference.mean == pytest.approx(m.record.bits_per_dim - values[0], abs=1e-9)
        assert m.difference.low < m.difference.mean < m.difference.high
    assert {m.subject.name: m.mark for m in group.measured} == {"mean_field": "", "made": "", "vae": "≤"}


def test_tightest_bound_counts(runs, evaluation):
    found = evaluation(runs[2])
    looser = type(found)(
        found.record.model_copy(update={"nats_per_example": found.record.nats_per_example + 1}), found.per_example
    )
    assert tightest([looser, found]) is found


def test_names_and_colours(runs, new_run, tmp_path):
    twin = new_run(tmp_path / "made", "made", {"hidden": [8]}, measured=False)
    names = unique_names([runs[1], twin, runs[1]])
    assert len(set(names)) == 3
    assert all("made" in name for name in names)
    assert len(set(colours([runs[0], runs[1], twin]))) == 3
    assert colours([runs[1], runs[0]]) == [0, 1]
    assert colours([runs[0], runs[1]]) == [1, 0]
    assert load_run_data(twin).name == "digits"


class Labelled(LikelihoodModel):
    """Draws its label."""

    def __init__(self) -> None:
        super().__init__(Space.image(1, 1, 1, conditions={"label": 10}), conditioning=("label",))

    def sample(self, n: int, generator: torch.Generator, *, label: Tensor) -> Tensor:
        """(n, 1, 1, 1): the label."""
        assert label.shape == (n,)
        return label.reshape(n, 1, 1, 1)


def test_draw_is_a_function_of_the_seed(runs):
    model = runs[1].load_model()
    first, again = (draw_samples(model, 70, seed=3) for _ in range(2))
    assert first.shape == (70, 1, 8, 8)
    assert torch.equal(first, again)
    assert not torch.equal(first, draw_samples(model, 70, seed=4))
    assert not torch.equal(first[:6], first[64:])  # batches have noise of their own


def test_temperature_zero_has_one_answer(runs):
    model = runs[1].load_model()
    a, b = draw_samples(model, 2, seed=1, temperature=0.0), draw_samples(model, 2, seed=2, temperature=0.0)
    assert torch.equal(a, b)


def test_given_rows_are_kept(runs):
    model = runs[1].load_model()
    given = load_data("digits").split("test").batch(slice(0, 66))
    x = draw_samples(model, 66, given=given, rows=4)
    assert torch.equal(x[:, :, :4], given[:, :, :4])
    assert not torch.equal(x[:, :, 4:], given[:, :, 4:])


def test_conditions():
    model = Labelled()
    assert draw_samples(model, 3, conditions={"label": 7}).ravel().tolist() == [7, 7, 7]
    assert draw_samples(model, 3, conditions={"label": [7, 2]}).ravel().tolist() == [7, 2, 7]
    turns = draw_samples(model, 130, conditions={"label": range(10)}).ravel().tolist()
    assert turns == [i % 10 for i in range(130)]  # batches of samples do not begin anew
    with pytest.raises(UsageError, match="Labelled wants a value for label; give --condition label=VALUE"):
        draw_samples(model, 3)
    with pytest.raises(UsageError, match=r"condition label=10; wanted 0\.\.9"):
        check_conditions(model, {"label": 10})
    with pytest.raises(UsageError, match="unknown condition of Labelled: 'lable'; did you mean 'label'"):
        check_conditions(model, {"lable": 1})


def test_what_a_model_cannot_take():
    with pytest.raises(UsageError, match=r"Labelled cannot be sampled with --temperature 0\.5"):
        draw_samples(Labelled(), 1, temperature=0.5, conditions={"label": 1})
    with pytest.raises(UsageError, match=r"LikelihoodModel has no sample\(\)"):
        draw_samples(LikelihoodModel(Space.image(1, 1, 1)), 1)
