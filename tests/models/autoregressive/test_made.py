"""MADE: order, masks, steps, and the mixture over orders."""

from __future__ import annotations

import math

import pytest
import torch

from codelength import Space, build_model
from codelength.errors import UsageError
from codelength.models.base import can, num_parameters
from codelength.nn.masked_mlp import hidden_degrees

GREY, COLOUR = Space.image(1, 5, 4, 17), Space.image(3, 3, 4, 256)
OPTIONS = [
    (GREY, {"hidden": [60, 60], "components": 2}),
    (GREY, {"hidden": [60, 60], "residual": True, "ordering": "random", "ordering_seed": 3, "components": 2}),
    (GREY, {"hidden": [45], "one_hot": True, "pixels": "categorical", "ordering": "random"}),
    (COLOUR, {"hidden": [40, 30], "components": 2}),
]


@pytest.fixture(params=OPTIONS, ids=str)
def model(request, randomize):
    space, options = request.param
    return randomize(build_model("made", space, **options).double().eval())


def _place(model):
    """Place of each site in the coding order, (H, W)."""
    return model.masks.order.view(model.space.sizes[1:])


@pytest.mark.parametrize(("space", "options"), [case for case in OPTIONS if not case[1].get("one_hot")], ids=str)
def test_a_site_depends_on_all_earlier_sites_and_no_other(space, options, dependencies, randomize):
    model = randomize(build_model("made", space, **options).double().eval())
    order = model.masks.order
    assert torch.equal(dependencies(model.ordered.outputs, space, images=20), order[None, :] < order[:, None])


def test_changes_at_a_site_or_later_do_not_reach_it(model, leaks):
    assert not leaks(model, _place(model))


def test_the_probe_finds_a_broken_mask(model, leaks):
    model.masks.output.fill_(True)
    assert leaks(model, _place(model))


def test_the_jacobian_finds_a_broken_mask(dependencies, randomize):
    model = randomize(build_model("made", GREY, hidden=[60, 60], components=2).double().eval())
    model.masks.hidden(0).fill_(True)
    order = model.masks.order
    assert (dependencies(model.ordered.outputs, GREY) & (order[None, :] >= order[:, None])).any()


def test_the_schedule_is_the_order(model):
    place = _place(model)
    assert [int(place[p.rows, p.columns]) for p in model.schedule] == list(range(place.numel()))


def test_random_orders_follow_the_seed():
    orders = [build_model("made", GREY, hidden=[4], ordering="random", ordering_seed=s).masks.order for s in (1, 1, 2)]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    assert orders[0].sort().values.tolist() == list(range(20))


def test_degrees_are_spread_evenly():
    degrees = hidden_degrees(500, 784)
    assert degrees.min() == 1
    assert degrees.max() == 783 - 1
    assert torch.equal(degrees, degrees.sort().values)
    assert hidden_degrees(3, 1).tolist() == [1, 1, 1]


def test_dropout_only_in_training():
    model = build_model("made", GREY, hidden=[50], dropout=0.5, components=2)
    x = torch.randint(17, (4, 1, 5, 4), generator=torch.Generator().manual_seed(0))
    model.network.output.weight.data.normal_()
    assert torch.equal(model.eval().log_prob(x), model.log_prob(x))
    assert not torch.equal(model.train().log_prob(x), model.log_prob(x))


def test_starts_near_the_uniform_code_length():
    model = build_model("made", Space.image(1, 8, 8), hidden=[20])
    x = torch.randint(256, (50, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    assert -model.log_prob(x).mean() < 1.1 * model.space.uniform_nats


def test_parameters_are_counted_once():
    model = build_model("made", Space.image(1, 28, 28, 2), hidden=[500])
    assert num_parameters(model) == 784 * 500 + 500 + 500 * 784 + 784


def test_misfits_are_refused():
    with pytest.raises(UsageError, match="one size"):
        build_model("made", GREY, hidden=[4, 5], residual=True)
    with pytest.raises(UsageError, match="layer sizes"):
        build_model("made", GREY, hidden=[])
    with pytest.raises(UsageError, match="ordering"):
        build_model("made", GREY, ordering="spiral")
    with pytest.raises(UsageError, match="dropout"):
        build_model("made", GREY, dropout=1.0)
    with pytest.raises(UsageError, match="emission"):
        build_model("made", Space.image(1, 2, 2, 2, binarization="dynamic"), pixels="emission")
    with pytest.raises(UsageError, match="images"):
        build_model("made", Space("sequence", (4,), 3))
    with pytest.raises(UsageError, match="at least 1"):
        build_model("made_ensemble", GREY, orderings=0)


def test_the_ensemble_averages_probabilities(randomize):
    model = randomize(build_model("made_ensemble", GREY, hidden=[30], orderings=3, components=2).double().eval())
    x = torch.randint(17, (6, 1, 5, 4), generator=torch.Generator().manual_seed(0))
    each = torch.stack([model.ordered(k).conditionals(x).log_prob(x) for k in range(3)])
    torch.testing.assert_close(model.log_prob(x), torch.logsumexp(each, 0) - math.log(3))
    assert (each.std(0) > 0).all()
    assert (model.log_prob(x) > each.mean(0)).all()


def test_the_ensemble_has_no_conditionals_and_trains_on_an_order_at_random(randomize):
    model = randomize(build_model("made_ensemble", GREY, hidden=[30], orderings=3, components=2).double().eval())
    assert not any(can(model, member) for member in ("conditionals", "schedule", "step", "init_state"))
    x = torch.randint(17, (6, 1, 5, 4), generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    seen = {round(model.training_objective(x, generator).sum().item(), 6) for _ in range(40)}
    assert seen == {round(-model.ordered(k).conditionals(x).log_prob(x).sum().item(), 6) for k in range(3)}


@pytest.mark.parametrize("ordering", ["raster", "random"])
@pytest.mark.parametrize("residual", [False, True])
def test_local_weights_fall_off_with_the_distance_from_the_first_site_not_seen(ordering, residual):
    space = Space.image(1, 12, 12, 2)
    options = {"hidden": [572, 572], "ordering": ordering, "residual": residual}
    model = build_model("made", space, reach=1.5, **options)
    masks = model.masks
    sites = torch.tensor([[s // 12, s % 12] for s in range(144)]).float()
    units = sites[torch.tensor(masks.sites)[masks.degrees[0]]]
    pairs = [
        (model.network.input.weight, masks.input, torch.cdist(units, sites), 2.0),
        (model.network.hidden_layer(0).weight, masks.hidden(0), torch.cdist(units, units), 0.5 if residual else 2.0),
        (model.network.output.weight, masks.output, torch.cdist(sites, units), 0.01),
    ]
    for weight, mask, distance, moment in pairs:
        near, far = (weight[mask & part].std().item() for part in (distance <= 1.5, distance > 6))
        assert near > 10 * far > 0
        squares = (weight * mask).square().sum(1)[mask.sum(1) > 20]
        torch.testing.assert_close(squares.mean().item(), moment, rtol=0.15, atol=0.0)
    plain = build_model("made", space, **options).network.input.weight
    assert plain[masks.input & (pairs[0][2] <= 1.5)].std() < 1.5 * plain[masks.input & (pairs[0][2] > 6)].std()


def test_a_reach_must_be_positive():
    with pytest.raises(UsageError, match="positive"):
        build_model("made", GREY, hidden=[60], reach=0.0)
