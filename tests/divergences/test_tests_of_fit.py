"""p-values: their level and their power in a small simulation; the large one is benchmarks/divergence_tests.py."""

import pytest
import torch

from codelength.divergences import GaussianKernel, InverseMultiquadric, ksd_p_value, median_bandwidth, mmd_p_value
from codelength.errors import UsageError


def sample(n, generator, contamination=0.0):
    x = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    return x + 3 * (torch.rand(n, 1, generator=generator) < contamination)


def p_value(kind, x, generator):
    if kind == "ksd":
        return ksd_p_value(x, -x, InverseMultiquadric(median_bandwidth(x)), resamples=100, generator=generator)
    y = sample(len(x), generator)
    return mmd_p_value(y, x, GaussianKernel(median_bandwidth(x, y)), permutations=100, generator=generator)


@pytest.mark.parametrize("kind", ["mmd", "ksd"])
def test_p_values_are_uniform_under_the_null_and_small_under_contamination(kind):
    from scipy.stats import kstest

    generator = torch.Generator().manual_seed(0)
    null = [p_value(kind, sample(80, generator), generator) for _ in range(150)]
    assert kstest(null, "uniform").pvalue > 1e-3
    shifted = [p_value(kind, sample(300, generator, 0.15), generator) for _ in range(15)]
    assert sum(p <= 0.05 for p in shifted) >= 13


def test_permutation_p_value_counts_the_statistic_itself():
    x = torch.arange(4.0, dtype=torch.float64)[:, None]
    generator = torch.Generator().manual_seed(0)
    far = mmd_p_value(x, x + 100, GaussianKernel(1.0), permutations=999, generator=generator)
    assert far == pytest.approx(2 / 70, abs=0.02)  # 2 of the 70 splits are as extreme
    assert mmd_p_value(x, x, GaussianKernel(1.0), permutations=99, generator=generator) > 0.5


def test_unequal_sizes_and_refusals():
    generator = torch.Generator().manual_seed(0)
    x = sample(40, generator)
    assert mmd_p_value(x, x[:10] + 5, GaussianKernel(1.0), permutations=99, generator=generator) == 0.01
    with pytest.raises(UsageError):
        mmd_p_value(x, x[:1], GaussianKernel(1.0), generator=generator)
    with pytest.raises(UsageError):
        ksd_p_value(x, -x, GaussianKernel(1.0), resamples=0, generator=generator)
