"""Area under the ROC curve with a confidence interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from codelength.errors import UsageError

FLOOR = 0.5  # pairs: keeps the logit finite where every pair is in order


@dataclass(frozen=True)
class Auroc:
    """P(score of an odd datum > score of a clean one) + half of P(equal).

    Args:
        value: The estimate.
        low, high: The confidence interval.
        standard_error: DeLong's.
    """

    value: float
    low: float
    high: float
    standard_error: float


def auroc(clean: np.ndarray, odd: np.ndarray, confidence: float = 0.95) -> Auroc:
    """Area under the ROC curve of scores, higher for odder data.

    Args:
        clean: Scores of clean data, (N,), 2 or more.
        odd: Scores of odd data, (M,), 2 or more.
        confidence: Coverage of the interval.

    Raises:
        UsageError: There are fewer than two of either, or a score is not a number.

    Reference: DeLong et al., Biometrics 44, 1988, for the variance; the interval is symmetric in the logit, so that it stays
    within 0 and 1 (Pepe 2003, section 5.2.4). Where all pairs are in order, the interval is Clopper and Pearson's for min(N, M) data
    of which none failed.

    >>> auroc(np.array([0.0, 1.0, 2.0]), np.array([1.5, 3.0, 4.0])).value.__round__(4)
    0.8889
    """
    from scipy.special import ndtri
    from scipy.stats import rankdata

    n, m = len(clean), len(odd)
    if min(n, m) < 2 or np.isnan(clean).any() or np.isnan(odd).any():
        raise UsageError(f"AUROC of {n} clean and {m} odd scores; wanted 2 or more of each, none of them NaN")
    ranks = rankdata(np.concatenate([clean, odd]))
    below = (ranks[n:] - rankdata(odd)) / n  # of each odd datum: share of clean ones below it, (M,)
    above = 1 - (ranks[:n] - rankdata(clean)) / m  # of each clean datum: share of odd ones above it, (N,)
    value = float(below.mean())
    error = math.sqrt(below.var(ddof=1) / m + above.var(ddof=1) / n)
    tail, fewest = (1 - confidence) / 2, min(n, m)
    if error == 0 and value in (0.0, 1.0):  # every pair in order: the exact bound of `fewest` successes
        bound = tail ** (1 / fewest)
        return Auroc(value, bound if value else 0.0, 1.0 if value else 1 - bound, 0.0)
    pinned = min(max(value, FLOOR / (n * m)), 1 - FLOOR / (n * m))
    logit, slope = math.log(pinned / (1 - pinned)), pinned * (1 - pinned)
    reach = float(ndtri(1 - tail)) * (error if error > 0 else math.sqrt(slope / fewest)) / slope
    low, high = (1 / (1 + math.exp(-min(max(end, -700), 700))) for end in (logit - reach, logit + reach))
    return Auroc(value, min(low, value), max(high, value), error)
