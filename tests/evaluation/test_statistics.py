"""Standard errors, intervals and corrections against formulas and simulation. Pitfalls A5.5 and B9, probe P10."""

from __future__ import annotations

import math

import numpy as np
import pytest

from codelength.evaluation.statistics import cluster_sums, holm, intervals, mean_with_error, standard_errors


def test_without_clusters_it_is_s_over_root_n():
    x = np.random.default_rng(0).standard_exponential(50)
    result = mean_with_error(x)
    assert result.value == pytest.approx(x.mean(), rel=1e-14)
    assert result.standard_error == pytest.approx(x.std(ddof=1) / math.sqrt(50), rel=1e-12)
    single = mean_with_error(x, np.arange(50)[::-1])
    assert single.standard_error == pytest.approx(result.standard_error, rel=1e-12)


def test_equal_clusters_are_data_of_their_means():
    x = np.random.default_rng(0).standard_normal(60)
    clusters = np.tile(np.arange(12), 5)
    means = x.reshape(5, 12).mean(0)
    assert mean_with_error(x, clusters).standard_error == pytest.approx(means.std(ddof=1) / math.sqrt(12), rel=1e-12)


def test_repeating_the_data_gives_no_precision_if_clusters_say_so():
    x = np.random.default_rng(0).standard_normal(40)
    original = mean_with_error(x).standard_error
    copied = mean_with_error(np.repeat(x, 4), np.repeat(np.arange(40), 4))
    assert copied.standard_error == pytest.approx(original, rel=1e-12)
    # Negative control: without clusters the copies pass for new data.
    assert mean_with_error(np.repeat(x, 4)).standard_error < 0.51 * original


def test_one_datum_or_cluster_has_no_error():
    assert math.isnan(mean_with_error(np.array([3.0])).standard_error)
    assert math.isnan(mean_with_error(np.array([3.0, 4.0]), np.array([7, 7])).standard_error)


def test_unequal_clusters_by_simulation():
    generator = np.random.default_rng(0)
    means, errors = [], []
    for _ in range(2000):
        sizes = generator.integers(1, 8, 40)
        clusters = np.repeat(np.arange(40), sizes)
        x = generator.standard_normal(40)[clusters] + generator.standard_normal(len(clusters))
        result = mean_with_error(x, clusters)
        means.append(result.value)
        errors.append(result.standard_error)
    # The relative error of a standard deviation from 2000 draws is 1/sqrt(4000) = 1.6%; the estimator's bias some 2%.
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(means), rel=0.08)


@pytest.mark.parametrize("clustered", [False, True])
def test_bootstrap_is_that_of_the_definition(clustered):
    generator = np.random.default_rng(3)
    clusters = np.repeat(np.arange(15), [1, 2, 3] * 5) if clustered else None
    n = 30 if clustered else 40
    values = generator.standard_exponential((n, 2))
    result = intervals(values, clusters, resamples=20_000, seed=1)
    sums, sizes = cluster_sums(values, clusters)
    deviations = []
    for _ in range(20_000):
        pick = generator.integers(len(sums), size=len(sums))
        mean = sums[pick].sum(0) / sizes[pick].sum()
        deviations.append((mean - values.mean(0)) / standard_errors(sums[pick], sizes[pick]))
    upper, lower = np.quantile(deviations, [0.975, 0.025], axis=0)
    expected = values.mean(0) - np.stack([upper, lower]) * result.standard_error
    # Two bootstraps of 20,000 resamples agree to a few percent of the interval's width.
    width = expected[1] - expected[0]
    assert np.all(np.abs(result.bootstrap - expected) < 0.05 * width)


def test_intervals_of_symmetric_data_agree_and_repeat():
    values = np.random.default_rng(0).standard_normal((3000, 3)) + 0.1
    a, b = (intervals(values, seed=5) for _ in range(2))
    assert np.array_equal(a.bootstrap, b.bootstrap)
    half = (a.normal[1] - a.normal[0]) / 2
    np.testing.assert_allclose(half, 1.96 * a.standard_error, rtol=2e-3)
    assert np.all(np.abs(a.bootstrap - a.normal) < 0.15 * half)
    assert np.all((a.p_value < 0.05) == (a.normal[0] > 0))


def test_equal_columns_and_single_clusters():
    same = intervals(np.zeros((20, 1)))
    assert same.p_value == 1
    assert np.array_equal(same.bootstrap, np.zeros((2, 1)))
    shifted = intervals(np.ones((20, 1)))
    assert shifted.p_value == 0
    lone = intervals(np.array([[1.0]]))
    assert np.isnan([*lone.standard_error, *lone.normal.ravel(), *lone.p_value]).all()


def test_holm_rejects_as_the_procedure_says():
    p = np.array([0.04, 0.001, 0.02, 0.013])
    corrected = holm(p)
    np.testing.assert_allclose(corrected, [0.04, 0.004, 0.04, 0.039])
    assert np.all(corrected >= p)
    assert np.all(corrected <= np.minimum(4 * p, 1))  # never more than Bonferroni
    assert holm(np.array([0.9, 0.8])).max() == 1
