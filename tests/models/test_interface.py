"""Properties that every registered system has, over the table of constructors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from codelength.errors import SpaceMismatchError, UsageError
from codelength.models.autoregressive.stepwise import score_stepwise, stepwise_log_prob_per_dim
from codelength.models.base import can, estimate_kind
from codelength.models.registry import SYSTEMS, build_model
from codelength.randomness import ExampleNoise


def _score(model: Any, x: Tensor, **conditions: Tensor) -> Tensor:
    """log_prob, or the model's one-sample log weights with noise of fixed seed."""
    if can(model, "log_prob"):
        return model.log_prob(x, **conditions)
    return model.log_weights(x, 1, ExampleNoise(0, range(len(x))), **conditions).total[0]


def _order(model: Any, shape: tuple[int, ...]) -> Tensor:
    """Step at which each site is coded, (H, W)."""
    order = torch.full(shape, -1)
    for step, positions in enumerate(model.schedule):
        assert (order[positions.rows, positions.columns] == -1).all(), "a site is coded twice"
        order[positions.rows, positions.columns] = step
    assert (order >= 0).all(), "a site is never coded"
    return order


def test_every_registered_system_has_a_row(rows):
    assert set(SYSTEMS) == {row.system for row in rows}


def test_masses_sum_to_one_over_the_whole_space(mass_row, make, enumerate_space, make_conditions):
    model, data = make(mass_row), enumerate_space(mass_row.space)
    conditions = {
        name: value[:1].expand(len(data), *value.shape[1:]) for name, value in make_conditions(model, len(data)).items()
    }
    with torch.no_grad():
        total = model.log_prob(data, **conditions).double().exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-9)


def test_enumeration_sees_a_missing_state(make, enumerate_space, rows):
    row = next(row for row in rows if row.system == "made")
    model, data = make(row), enumerate_space(row.space)
    assert abs(model.log_prob(data[1:]).exp().sum().item() - 1) > 1e-6


def test_each_conditional_sums_to_one(step_row, make, random_data, make_conditions):
    model, x = make(step_row), random_data(step_row.space, 5)
    with torch.no_grad():
        distribution = model.conditionals(x, **make_conditions(model, 5))
        for c in range(x.shape[1]):
            probs = distribution.channel(c, x[:, :c] - step_row.space.offset).probs()
            assert probs.shape == (5, *x.shape[2:], step_row.space.levels)
            torch.testing.assert_close(probs.sum(-1), torch.ones(5, *x.shape[2:], dtype=torch.float64))


def test_conditionals_ignore_their_own_and_later_sites(step_row, make, random_data, make_conditions):
    """Exact equality: contexts that differ from a dim on give the same distributions up to that dim."""
    model, space = make(step_row), step_row.space
    x, query = random_data(space, 6), random_data(space, 6, seed=1) - space.offset
    order, conditions = _order(model, x.shape[2:]), make_conditions(model, 6)
    channels = torch.arange(x.shape[1])[:, None, None]
    with torch.no_grad():
        before = model.conditionals(x, **conditions).log_prob_per_dim(query)
        for step in range(int(order.max()) + 1):
            for c in range(x.shape[1]):
                later = (order > step) | ((order == step) & (channels >= c))
                changed = torch.where(later, 2 * space.offset + space.levels - 1 - x, x)
                after = model.conditionals(changed, **conditions).log_prob_per_dim(query)
                seen = ~later | ((order == step) & (channels == c))
                assert torch.equal(after[:, seen], before[:, seen])


def test_a_raster_causal_model_sees_nothing_later_in_raster_order(step_row, make, random_data, make_conditions):
    """What `raster_causal` promises, and completion of upper rows rests on; models without it promise nothing."""
    model, space = make(step_row), step_row.space
    promises = getattr(model, "raster_causal", False)
    assert promises or step_row.system not in ("pixelcnn_pp", "causal_window", "context_table")
    if not promises:
        return
    x, query = random_data(space, 4), random_data(space, 4, seed=1) - space.offset
    conditions, place = make_conditions(model, 4), torch.arange(x.shape[2] * x.shape[3]).view(x.shape[2:])
    with torch.no_grad():
        before = model.conditionals(x, **conditions).log_prob_per_dim(query)
        for site in place.flatten():
            changed = torch.where(place > site, 2 * space.offset + space.levels - 1 - x, x)
            after = model.conditionals(changed, **conditions).log_prob_per_dim(query)
            assert torch.equal(after[:, :, place <= site], before[:, :, place <= site])


def test_steps_equal_the_parallel_pass_in_float64(step_row, make, random_data, make_conditions):
    model, x = make(step_row), random_data(step_row.space, 6)
    conditions = make_conditions(model, 6)
    with torch.no_grad():
        parallel = model.conditionals(x, **conditions).log_prob_per_dim(x - step_row.space.offset)
        assert (stepwise_log_prob_per_dim(model, x, **conditions) - parallel).abs().max() < 1e-9
        torch.testing.assert_close(score_stepwise(model, x, **conditions), model.log_prob(x, **conditions).double())


def test_steps_equal_the_parallel_pass_in_float32(step_row, make, random_data, make_conditions):
    model, x = make(step_row, dtype=torch.float32), random_data(step_row.space, 50)
    conditions = make_conditions(model, 50)
    with torch.no_grad():
        gap = score_stepwise(model, x, **conditions) - model.log_prob(x, **conditions)
    assert gap.abs().max() / step_row.space.num_dims < 1e-6


def test_a_state_is_not_shared_between_passes(step_row, make, random_data, make_conditions):
    model, x = make(step_row), random_data(step_row.space, 3)
    conditions = make_conditions(model, 3)
    assert torch.equal(score_stepwise(model, x, **conditions), score_stepwise(model, x, **conditions))


def test_samples_follow_the_density(mass_row, make, enumerate_space, make_conditions):
    """The mean code length of samples is the entropy, and frequencies are the masses, within 5 standard errors."""
    model, data, n = make(mass_row), enumerate_space(mass_row.space), 4000
    conditions = make_conditions(model, 1)

    def told(count):
        """The one condition, for so many data."""
        return {name: value.expand(count, *value.shape[1:]) for name, value in conditions.items()}

    with torch.no_grad():
        log_probs = model.log_prob(data, **told(len(data))).double()
        samples = model.sample(n, torch.Generator().manual_seed(3), **told(n))
        costs = -model.log_prob(samples, **told(n)).double()
    probs = log_probs.exp()
    entropy = -(probs * log_probs).sum()
    spread = (probs * (log_probs + entropy).square()).sum().sqrt()
    assert samples.shape == (n, *mass_row.space.shape)
    assert samples.dtype == torch.int64
    assert abs(costs.mean() - entropy) <= 5 * spread / n**0.5 + 1e-9
    for dim in range(mass_row.space.num_dims):
        for level in range(mass_row.space.offset, mass_row.space.offset + mass_row.space.levels):
            expected = probs[data.flatten(1)[:, dim] == level].sum()
            error = (samples.flatten(1)[:, dim] == level).double().mean() - expected
            assert abs(error) <= 5 * (expected * (1 - expected) / n).sqrt() + 1e-9


def test_samples_lie_in_the_space(row, make, make_conditions):
    model = make(row, dtype=torch.float32)
    samples = model.sample(9, torch.Generator().manual_seed(0), **make_conditions(model, 9))
    assert torch.equal(row.space.validate(samples), samples)


def test_sampling_is_a_function_of_the_generator(row, make, make_conditions):
    model = make(row)
    conditions = make_conditions(model, 4)
    first, second = (model.sample(4, torch.Generator().manual_seed(5), **conditions) for _ in range(2))
    assert torch.equal(first, second)


def test_batch_mates_change_nothing(row, make, random_data, make_conditions):
    model, x = make(row), random_data(row.space, 5)
    conditions = make_conditions(model, 5)
    with torch.no_grad():
        together = _score(model, x, **conditions)
        for i in range(len(x)):
            noise = ExampleNoise(0, [i])
            own = {name: value[i : i + 1] for name, value in conditions.items()}
            if can(model, "log_prob"):
                alone = model.log_prob(x[i : i + 1], **own)
            else:
                alone = model.log_weights(x[i : i + 1], 1, noise, **own).total[0]
            torch.testing.assert_close(alone, together[i : i + 1], rtol=1e-10, atol=1e-10)


def test_weights_saved_and_loaded_give_the_same_score(row, make, random_data, make_conditions):
    model, x = make(row), random_data(row.space, 5)
    fresh = build_model(row.system, row.space, **row.options).double().eval()
    fresh.load_state_dict(model.state_dict())
    conditions = make_conditions(model, 5)
    with torch.no_grad():
        assert torch.equal(_score(fresh, x, **conditions), _score(model, x, **conditions))


def test_gradients_reach_every_parameter(row, make, random_data, make_conditions):
    model, x = make(row), random_data(row.space, 16)
    if not any(p.requires_grad for p in model.parameters()):
        assert can(model, "fit") or row.system in ("uniform", "quantized")
        return
    _score(model, x, **make_conditions(model, 16)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_kind_is_derived(row, make):
    assert estimate_kind(make(row)) in ("exact", "bound")


def test_foreign_data_are_refused(mass_row, make, make_conditions):
    model, shape = make(mass_row), mass_row.space.sizes
    conditions = make_conditions(model, 1)
    with pytest.raises(SpaceMismatchError, match="levels"):
        model.log_prob(torch.full((1, *shape), mass_row.space.offset + mass_row.space.levels), **conditions)
    with pytest.raises(SpaceMismatchError, match="shape"):
        model.log_prob(torch.full((1, *shape[:-1], 7), mass_row.space.offset), **conditions)


def test_unknown_conditions_are_refused(step_row, make):
    model = make(step_row)
    with pytest.raises(UsageError, match="condition"):
        model.init_state(2, colour=torch.zeros(2))
