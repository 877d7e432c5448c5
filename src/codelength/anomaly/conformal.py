"""Conformal p-values: how often clean data score as high, with a guarantee for any score and any finite number of data.

If a new datum and the n calibration data are exchangeable, p = (1 + #{calibration scores >= its score}) / (n + 1) has
P(p <= α) <= α: flagging p <= α makes at most a share α of false alarms, on average over calibrations (Vovk et al., Algorithmic
Learning in a Random World, 2005, proposition 2.8). The share of one calibration is random too, Beta(l, n + 1 − l) with
l = ⌊α (n + 1)⌋ (Vovk, arXiv:1209.2673, proposition 2a).
"""

from __future__ import annotations

import math

import numpy as np

from codelength.errors import UsageError


def conformal_p_values(calibration: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """p-value of each score, (M,), against the scores of clean data, (n,); higher scores are odder.

    Raises:
        UsageError: There are no calibration scores, or a score is not a number.

    >>> conformal_p_values(np.array([1.0, 2.0, 3.0]), np.array([0.0, 2.0, 9.0])).tolist()
    [1.0, 0.75, 0.25]
    """
    if len(calibration) == 0 or np.isnan(calibration).any() or np.isnan(scores).any():
        raise UsageError(f"conformal p-values of {len(calibration)} calibration scores; wanted 1 or more, none NaN")
    below = np.searchsorted(np.sort(calibration), scores, side="left")
    return np.asarray((1 + len(calibration) - below) / (len(calibration) + 1))


def check_rate(rate: float, calibration: int) -> None:
    """Refuse a false-positive rate that so few calibration data cannot give: nothing would ever be flagged.

    Raises:
        UsageError: The rate is no probability, or below 1 / (n + 1).
    """
    if not 0 < rate < 1:
        raise UsageError(f"false-positive rate {rate}; wanted a number between 0 and 1")
    if rate * (calibration + 1) < 1:
        raise UsageError(
            f"false-positive rate {rate} of {calibration} calibration data: the least p-value is {1 / (calibration + 1):.2g}, "
            f"so that nothing would be flagged; give {math.ceil(1 / rate) - 1} or more calibration data, or a higher rate"
        )


def false_positive_interval(
    rate: float, calibration: int, tested: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of the share of `tested` clean data with p <= rate, over calibrations of n data and over tests.

    The count is beta-binomial. No ties are assumed; with ties the share is lower.

    Raises:
        UsageError: As `check_rate`.
    """
    from scipy.stats import betabinom

    check_rate(rate, calibration)
    rank = math.floor(rate * (calibration + 1) + 1e-9)
    counts = betabinom(tested, rank, calibration + 1 - rank)
    tail = (1 - confidence) / 2
    return float(counts.ppf(tail)) / tested, float(counts.ppf(1 - tail)) / tested
