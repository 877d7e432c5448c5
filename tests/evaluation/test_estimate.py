"""The loop counts every datum once: pitfalls D1-D6, probe P6."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from codelength.data.dataset import Split
from codelength.errors import EvaluationError, SpaceMismatchError, UsageError
from codelength.evaluation import per_example_nats
from codelength.models.base import LikelihoodModel
from codelength.space import Space

SPACE = Space.image(1, 2, 3, levels=5)


@pytest.fixture
def split() -> Split:
    return Split(np.random.default_rng(0).integers(0, 5, (65, 1, 2, 3)).astype(np.uint8))


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_every_datum_is_scored_once_whatever_the_batch(known, split, batch_size):
    result = per_example_nats(known(SPACE), split, batch_size=batch_size)
    expected = 0.25 * split.x.reshape(65, -1).sum(1)
    assert result.kind == "exact"
    assert result.num_samples == 1
    assert result.code_length.dtype == np.float64
    assert np.array_equal(result.code_length, expected)  # multiples of 1/4 are exact in float32


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_bounds_do_not_depend_on_batch_order_or_chunk(logistic, monkeypatch, batch_size):
    model = logistic(4, 0.5)
    split = Split(model.draw(65))
    whole = per_example_nats(model, split, samples=50, seed=3, batch_size=65)
    order = np.random.default_rng(1).permutation(65)
    monkeypatch.setattr("codelength.evaluation.bounds.DIMS_PER_CHUNK", 900)
    part = per_example_nats(model, split, samples=50, seed=3, batch_size=batch_size, indices=order)
    for name in ("code_length", "elbo", "ess", "k_hat"):
        np.testing.assert_allclose(getattr(part, name), getattr(whole, name)[order], rtol=1e-5, atol=1e-5)
    assert part.curve.keys() == whole.curve.keys() == {1, 10, 50}


def test_the_seed_decides(logistic):
    model = logistic(4, 0.5)
    split = Split(model.draw(20))
    a, b, c = (per_example_nats(model, split, samples=5, seed=seed).code_length for seed in (0, 0, 1))
    assert np.array_equal(a, b)
    assert not np.isclose(a, c).any()


def test_progress_ends_at_all(known, split):
    seen = []
    per_example_nats(known(SPACE), split, batch_size=30, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(30, 65), (60, 65), (65, 65)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_code_lengths_fail_by_index(split, value):
    class Broken(LikelihoodModel):
        def log_prob(self, x):
            score = -x.flatten(1).sum(1).float()
            score[(x == torch.from_numpy(split.x[41].astype(np.int64))).flatten(1).all(1)] = value
            return score

    with pytest.raises(EvaluationError, match=r"examples 41\. "):
        per_example_nats(Broken(SPACE), split, batch_size=10)
    rest = per_example_nats(Broken(SPACE), split, indices=[i for i in range(65) if i != 41])
    assert len(rest.code_length) == 64


@pytest.mark.parametrize("shape", [(), (65, 1), (64,)])
def test_a_log_prob_that_is_no_value_a_datum_is_refused(split, shape):
    class Averages(LikelihoodModel):
        def log_prob(self, x):
            return torch.zeros(shape)

    with pytest.raises(EvaluationError, match="one value a datum"):
        per_example_nats(Averages(SPACE), split)


def test_data_of_another_space_are_refused_before_scoring(known, split):
    with pytest.raises(SpaceMismatchError, match="levels"):
        per_example_nats(known(Space.image(1, 2, 3, levels=3)), split)
    with pytest.raises(SpaceMismatchError, match="shape"):
        per_example_nats(known(Space.image(1, 3, 2, levels=5)), split)


def test_conditions_reach_the_model_in_data_order(known):
    x = np.zeros((9, 1, 2, 3), np.uint8)
    split = Split(x, conditions={"label": np.arange(9), "other": np.arange(9)})
    result = per_example_nats(known(SPACE, ("label",)), split, batch_size=4)
    assert np.array_equal(result.code_length, np.arange(9))
    with pytest.raises(UsageError, match="conditioned on label"):
        per_example_nats(known(SPACE, ("label",)), Split(x))


def test_evaluation_mode_inside_and_every_mode_restored(split):
    class Dropping(LikelihoodModel):
        def __init__(self):
            super().__init__(SPACE)
            self.frozen, self.dropout = nn.Dropout(0.5), nn.Dropout(0.5)
            self.frozen.eval()

        def log_prob(self, x):
            assert not torch.is_grad_enabled()
            return self.dropout(x.float()).flatten(1).sum(1)

    model = Dropping()
    result = per_example_nats(model, split)
    assert np.array_equal(-result.code_length, split.x.reshape(65, -1).sum(1))
    assert (model.training, model.dropout.training, model.frozen.training) == (True, True, False)


def test_dynamic_data_are_scored_by_their_expectation_where_the_model_has_it():
    space = Space.image(1, 2, 2, levels=2, binarization="dynamic")
    generator = np.random.default_rng(0)
    intensity = generator.random((6, 1, 2, 2)).astype(np.float32)
    split = Split((generator.random(intensity.shape) < intensity).astype(np.uint8), intensity=intensity)

    class Sampled(LikelihoodModel):
        def log_prob(self, x):
            return -x.flatten(1).sum(1).float()

    class Expected(Sampled):
        def expected_log_prob(self, intensity):
            return -intensity.flatten(1).sum(1)

    expected = per_example_nats(Expected(space), split, batch_size=4)
    sampled = per_example_nats(Sampled(space), split, batch_size=4)
    assert expected.kind == "exact"
    assert expected.expected_over_binarizations
    assert not sampled.expected_over_binarizations
    np.testing.assert_allclose(expected.code_length, intensity.reshape(6, -1).sum(1), rtol=1e-6)
    assert np.array_equal(sampled.code_length, split.x.reshape(6, -1).sum(1))


def test_empty_and_impossible_calls_are_refused(known, split):
    model = known(SPACE)
    with pytest.raises(EvaluationError, match="no data"):
        per_example_nats(model, split, indices=[])
    for options in ({"samples": 0}, {"batch_size": 0}):
        with pytest.raises(UsageError, match="wanted 1 or more"):
            per_example_nats(model, split, **options)
    with pytest.raises(UsageError, match="neither log_prob nor log_weights"):
        per_example_nats(LikelihoodModel(SPACE), split)
    assert per_example_nats(model, split, device="cpu").kind == "exact"
