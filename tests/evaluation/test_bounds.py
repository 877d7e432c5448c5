"""Multi-sample bounds: the stream equals the formulas, and known answers are met. Pitfalls B7, C1-C6."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
import torch
from torch import Tensor

from codelength.data.dataset import DataSet, Split
from codelength.errors import EvaluationError
from codelength.evaluation import evaluate, per_example_nats
from codelength.evaluation.bounds import WeightStream, bound_batch, chunk_length, has_converged
from codelength.evaluation.pareto import pareto_k_hat
from codelength.functional import log_mean_exp
from codelength.models.base import LikelihoodModel, LogWeights
from codelength.space import Space
from codelength.units import bits_per_dim


def _stream(weights: Tensor, chunks: list[int]):
    stream = WeightStream(len(weights))
    for chunk in weights.split(chunks):
        stream.add(chunk)
    return stream.result()


@pytest.mark.parametrize("chunks", [[230], [1] * 230, [7, 90, 100, 33], [10] * 23])
def test_the_stream_equals_the_formulas_however_it_is_cut(chunks):
    w = 3 * torch.randn(230, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1000
    result = _stream(w, chunks)
    p = torch.exp(w - w.max(0).values)
    close = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(result.bound, log_mean_exp(w), **close)
    torch.testing.assert_close(result.elbo, w.mean(0), **close)
    torch.testing.assert_close(result.ess, p.sum(0) ** 2 / (p**2).sum(0), rtol=1e-9, atol=0)
    torch.testing.assert_close(result.k_hat, pareto_k_hat(w, 230), rtol=1e-9, atol=0)
    torch.testing.assert_close(result.curve[10], log_mean_exp(w.unflatten(0, (23, 10)), dim=1).mean(0), **close)
    # Groups of 100 that are full: two of them.
    torch.testing.assert_close(result.curve[100], log_mean_exp(w[:200].unflatten(0, (2, 100)), dim=1).mean(0), **close)
    assert list(result.curve) == [1, 10, 100, 230]


def test_extreme_and_impossible_samples():
    w = torch.full((20, 3), -1e5, dtype=torch.float64)
    w[3:, 1] = -math.inf  # samples of no weight
    w[:, 2] = math.nan
    result = _stream(w, [20])
    assert float(result.bound[0]) == pytest.approx(-1e5)
    assert float(result.bound[1]) == pytest.approx(-1e5 + math.log(3 / 20))
    assert float(result.ess[0]) == pytest.approx(20)
    assert float(result.ess[1]) == pytest.approx(3)
    assert result.elbo[1] == -math.inf
    assert result.bound[2].isnan()


def test_linear_gaussian_with_a_wrong_encoder(wrong_encoder):
    model = wrong_encoder()
    x = torch.from_numpy(model.draw(500))
    with torch.no_grad():
        exact = model.exact(x)
        result = bound_batch(model, x, np.arange(500), samples=1000, seed=0)
    gaps = {k: (exact - bound).mean() for k, bound in result.curve.items()}
    error = (exact - result.bound).std() / math.sqrt(500)
    assert gaps[1] > 0.3  # the encoder is wrong
    assert gaps[1] > gaps[10] > gaps[100] > gaps[1000]
    assert abs(gaps[1000]) < 0.01
    assert error <= 0.003
    torch.testing.assert_close(result.elbo, result.curve[1])
    # The encoder is wider than the posterior, so the weights are bounded; a narrow one has a heavy tail.
    assert float(result.k_hat.median()) < 0.5
    with torch.no_grad():
        narrow = bound_batch(wrong_encoder(width=0.5), x[:50], np.arange(50), samples=1000, seed=0)
    assert float(narrow.k_hat.median()) > 0.5


def test_negative_control_mean_of_log_weights_is_no_k_sample_bound(wrong_encoder):
    model = wrong_encoder()
    x = torch.from_numpy(model.draw(100))
    with torch.no_grad():
        result = bound_batch(model, x, np.arange(100), samples=1000, seed=0)
        assert float((model.exact(x) - result.elbo).mean()) > 0.3


def test_factorized_logistic_in_16_dims(logistic):
    model = logistic(16, 0.5)
    split = Split(model.draw(2000))
    with torch.no_grad():
        exact = model.exact(torch.from_numpy(split.x)).numpy()
    result = per_example_nats(model, split, samples=1000, batch_size=500)
    gap = bits_per_dim(result.code_length + exact, 16)
    assert bits_per_dim((result.elbo + exact).mean(), 16) >= 0.05
    assert gap.mean() <= 0.001
    assert gap.std() / math.sqrt(2000) <= 0.0005
    assert gap.mean() > -3 * gap.std() / math.sqrt(2000)  # a bound: not below the exact mass
    assert has_converged(result.curve, float(np.median(result.ess)), 16)


def test_in_784_dims_uniform_noise_stays_loose_and_is_flagged(logistic):
    model = logistic(784, 0.5)
    split = Split(model.draw(20))
    with torch.no_grad():
        exact = model.exact(torch.from_numpy(split.x)).numpy()
    result = per_example_nats(model, split, samples=1000)
    assert 0.03 < bits_per_dim((result.code_length + exact).mean(), 784) < 0.05
    assert not has_converged(result.curve, float(np.median(result.ess)), 784)


def test_memory_is_flat_in_k(logistic):
    model = logistic(784, 0.5)
    split = Split(model.draw(100))
    per_example_nats(model, split, samples=2)  # imports and caches

    def numpy_peak(samples: int) -> int:
        tracemalloc.start()
        per_example_nats(model, split, samples=samples)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert numpy_peak(200) < 1.1 * numpy_peak(10)


def test_the_model_is_called_in_chunks_of_bounded_size(logistic):
    sizes = []

    class Watched(logistic):
        def log_weights(self, x, k, generator):
            sizes.append((k, generator.first_sample))
            return LogWeights({"zero": torch.zeros(k, len(x))})

    bound_batch(Watched(784, 0.5), torch.zeros(100, 784, dtype=torch.long), np.arange(100), samples=10, seed=0)
    assert sizes == [(3, 0), (3, 3), (3, 6), (1, 9)]
    assert chunk_length(1000, 100, 3072) == 1
    assert chunk_length(10, 100, 2) == 10


def test_weights_of_another_shape_are_refused():
    class Sums(LikelihoodModel):
        def log_weights(self, x, k, generator):
            return LogWeights({"all": torch.zeros(k)})

    with pytest.raises(EvaluationError, match=r"wanted \(k, B\) = \(5, 3\)"):
        bound_batch(Sums(Space("vector", (2,), 3)), torch.zeros(3, 2).long(), np.arange(3), samples=5, seed=0)


@pytest.mark.parametrize(
    ("curve", "ess", "expected"),
    [
        ({1: 1.0}, 1.0, False),
        ({1: 1.0, 10: 0.9999}, 9.0, True),
        ({1: 1.0, 10: 0.9999}, 4.9, False),
        ({1: 1.0, 10: 0.99}, 9.0, False),
        # From K / 10 = 30 to 300 the curve moves by (1 − log10 3) 0.01 + 0.0: just above the limit in bits, then below.
        ({1: 1.0, 10: 0.51, 100: 0.5, 300: 0.5}, 9.0, False),
        ({1: 1.0, 10: 0.505, 100: 0.5, 300: 0.5}, 9.0, True),
    ],
)
def test_convergence_rule(curve, ess, expected):
    assert has_converged(curve, ess, 1) is expected


class GivenBound(LikelihoodModel):
    """Computes its own bound, noisy and falling as 1 / k; `log_weights` must not be asked."""

    def bound(self, x, k, generator):
        return -3 - 1 / k + torch.randn(len(x), generator=generator)

    def log_weights(self, x, k, generator):
        raise AssertionError


def test_a_bound_that_a_model_computes_is_never_exponentiated():
    split = Split(np.zeros((4000, 1), np.int64))
    model = GivenBound(Space("vector", (1,), 2))
    result = per_example_nats(model, split, samples=100, batch_size=7)
    assert result.kind == "bound"
    assert result.ess is None
    # A mean of exponentials of these unit-normal values would claim half a nat too little.
    for k, mean in result.curve.items():
        assert mean == pytest.approx(3 + 1 / k, abs=5 / math.sqrt(4000))
    assert list(result.curve) == [1, 10, 100]
    again = per_example_nats(model, split, samples=100, indices=[17, 3])
    assert np.array_equal(again.code_length, result.code_length[[17, 3]])


@pytest.mark.parametrize("samples", [1, 4, 1000])
def test_a_given_bound_has_no_weights_but_a_curve(samples):
    model = GivenBound(Space("vector", (1,), 2))
    data = DataSet("d", model.space, {"test": Split(np.zeros((50, 1), np.int64))})
    record = evaluate(model, data, "test", samples=samples, model_name="m", family="f").record
    assert record.ess_median is None
    assert record.elbo_bits_per_dim is not None
    assert not record.converged  # too few samples, or noise that moves the curve
