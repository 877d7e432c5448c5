"""Means with their standard errors, paired differences with intervals: also where data come in clusters.

Data of one cluster (photograph, speaker, document) resemble each other, so that N data carry less information than N
independent ones. The mean over data is then a ratio of cluster sums Σ_g S_g / Σ_g n_g, with the variance

    (G / (G − 1)) Σ_g (S_g − m n_g)² / N²,

which is s² / N where every datum is its own cluster (Cochran, Sampling Techniques, eq. (2.47); Liang and Zeger 1986).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RESAMPLES_PER_CHUNK = 250


@dataclass(frozen=True)
class Mean:
    """A mean with its standard error; NaN where there are fewer than two clusters."""

    value: float
    standard_error: float


def cluster_sums(values: np.ndarray, clusters: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Sums over clusters (G, R) of values (N, R), and cluster sizes (G,)."""
    if clusters is None:
        return values, np.ones(len(values))
    _, group = np.unique(clusters, return_inverse=True)
    sizes = np.bincount(group).astype(np.float64)
    sums = np.stack([np.bincount(group, weights=column) for column in values.T], axis=1)
    return sums, sizes


def standard_errors(sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Standard error of the mean of each column, (R,): see the module's formula; NaN for one cluster."""
    groups, total = len(sums), sizes.sum()
    if groups < 2:
        return np.full(sums.shape[1], np.nan)
    residuals = sums - sizes[:, None] * (sums.sum(0) / total)
    return np.asarray(np.sqrt(groups / (groups - 1) * (residuals**2).sum(0)) / total)


def mean_with_error(values: np.ndarray, clusters: np.ndarray | None = None) -> Mean:
    """Mean of (N,) values and its standard error.

    >>> mean_with_error(np.array([1.0, 3.0]))
    Mean(value=2.0, standard_error=1.0)
    """
    sums, sizes = cluster_sums(np.asarray(values, dtype=np.float64)[:, None], clusters)
    return Mean(float(np.mean(values)), float(standard_errors(sums, sizes)[0]))


@dataclass(frozen=True)
class Intervals:
    """Means of columns with two kinds of interval, each array (R,) or (2, R)."""

    mean: np.ndarray
    standard_error: np.ndarray
    normal: np.ndarray
    bootstrap: np.ndarray
    p_value: np.ndarray


def intervals(
    values: np.ndarray,
    clusters: np.ndarray | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Intervals:
    """Confidence intervals of the mean of each column.

    The normal interval is mean ± t * s.e., with Student's t of G − 1 degrees of freedom, the normal's where there are
    many clusters. The bootstrap interval resamples clusters and is studentized (bootstrap-t): it inverts the
    distribution of (mean* − mean) / s.e.*, and so follows skewed data.

    Args:
        values: (N, R).
        clusters: Cluster of each datum, (N,).
        confidence: Coverage.
        resamples: Bootstrap resamples.
        seed: Seed of the bootstrap.

    Reference: Efron and Tibshirani, An Introduction to the Bootstrap, chapter 12.
    """
    from scipy.special import stdtr, stdtrit

    mean = values.mean(0)
    sums, sizes = cluster_sums(values - mean, clusters)  # centred: the sums of squares below must not cancel
    error = standard_errors(sums, sizes)
    freedom = max(len(sums) - 1, 1)
    t = float(stdtrit(freedom, (1 + confidence) / 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        p_value = np.where(error > 0, 2 * stdtr(freedom, -np.abs(mean / error)), np.where(mean == 0, 1.0, 0.0))
    tails = [(1 + confidence) / 2, (1 - confidence) / 2]
    quantiles = np.quantile(_studentized(sums, sizes, resamples, seed), tails, axis=0)
    return Intervals(
        mean=mean,
        standard_error=error,
        normal=np.stack([mean - t * error, mean + t * error]),
        bootstrap=mean - quantiles * error,
        p_value=np.where(np.isnan(error), np.nan, p_value),
    )


def _studentized(sums: np.ndarray, sizes: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """(mean* − mean) / s.e.* of each resample and column, (resamples, R), for centred sums.

    A resample is a vector of multinomial counts w, and every statistic is a matrix product with it:
    mean* = w·S / w·n and s.e.*² = (G / (G − 1)) (w·S² − 2 mean* w·(S n) + mean*² w·n²) / (w·n)².
    """
    groups = len(sums)
    features = np.concatenate([sums, sums**2, sums * sizes[:, None], sizes[:, None], sizes[:, None] ** 2], axis=1)
    generator = np.random.default_rng(seed)
    rows = []
    for start in range(0, resamples, RESAMPLES_PER_CHUNK):
        count = min(RESAMPLES_PER_CHUNK, resamples - start)
        picks = generator.integers(groups, size=(count, groups)) + groups * np.arange(count)[:, None]
        weights = np.bincount(picks.ravel(), minlength=count * groups).reshape(count, groups)
        totals = weights.astype(np.float64) @ features
        s, s2, sn = np.split(totals[:, :-2], 3, axis=1)
        n, n2 = totals[:, -2:-1], totals[:, -1:]
        mean = s / n
        variance = groups / max(groups - 1, 1) * np.maximum(s2 - 2 * mean * sn + mean**2 * n2, 0) / n**2
        # A resample without variance (one cluster drawn G times) says nothing: it counts as no deviation.
        rows.append(np.divide(mean, np.sqrt(variance), out=np.zeros_like(mean), where=variance > 0))
    return np.concatenate(rows)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down correction: p-values that keep the chance of any false claim among all pairs under their level.

    Reference: Holm, "A simple sequentially rejective multiple test procedure", 1979.

    >>> holm(np.array([0.01, 0.04, 0.03])).round(6).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values)
    factors = len(p_values) - np.arange(len(p_values))
    stepped = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1.0)
    corrected = np.empty_like(stepped)
    corrected[order] = stepped
    return corrected
