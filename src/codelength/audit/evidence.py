"""Evidence against "the probabilities sum to at most one", valid whatever the model is.

Let x_1, x_2, ... be drawn from a known normalized q, and w_t = p(x_t) / q(x_t). If Σ p <= 1 then E w_t <= 1, and

- by Markov, P(mean of w >= c) <= 1/c;
- each wealth Π_t (1 + λ (w_t − 1)) with λ in [0, 1] is a nonnegative supermartingale that starts at 1, and so is their average
  over several λ; by Ville's inequality P(it ever reaches c) <= 1/c. It sees a sum of 1.1 where the mean alone needs 1,000.

Both are e-values: a large one is a proof up to the probability 1/c, a small one says nothing.

References: Ville 1939; Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", arXiv:2010.09686.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import logsumexp

BETS = (0.003, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95, 0.99)
# A false alarm of the wealth has probability 1e-5 at most; of the mean, by Markov, 1e-3 at most and in practice far less.
LOG_WEALTH_ALARM = math.log(1e5)
LOG_MEAN_ALARM = math.log(1e3)


def log_wealth(log_ratios: np.ndarray) -> float:
    """Log of the largest wealth that betting against "mean ratio <= 1" ever reaches.

    Args:
        log_ratios: log w_t, (n,), in the order drawn; −inf is allowed.

    >>> log_wealth(np.zeros(100)) < 1e-9   # ratios of exactly 1: no evidence
    True
    >>> log_wealth(np.full(50, math.log(2.0))) > math.log(1e5)
    True
    """
    if len(log_ratios) == 0:
        return 0.0
    if np.isposinf(log_ratios).any():
        return math.inf
    bets = np.asarray(BETS)[:, None]
    steps = np.logaddexp(np.log1p(-bets), np.log(bets) + np.asarray(log_ratios, dtype=np.float64)[None])
    wealth = logsumexp(np.cumsum(steps, axis=1), axis=0) - math.log(len(BETS))
    return max(0.0, float(wealth.max()))


def log_mean(log_ratios: np.ndarray) -> float:
    """Log of the mean ratio.

    >>> log_mean(np.zeros(3))
    0.0
    """
    return float(logsumexp(log_ratios) - math.log(len(log_ratios)))


def effective_fraction(log_ratios: np.ndarray) -> float:
    """Effective sample size as a fraction of the number of samples: 1 where all ratios are equal."""
    finite = log_ratios[np.isfinite(log_ratios)]
    if len(finite) == 0:
        return 0.0
    return float(np.exp(2 * logsumexp(finite) - logsumexp(2 * finite)) / len(log_ratios))


def proves_excess(log_ratios: np.ndarray) -> bool:
    """Whether the ratios prove a sum above one."""
    return log_wealth(log_ratios) >= LOG_WEALTH_ALARM or log_mean(log_ratios) >= LOG_MEAN_ALARM
