"""p-values: do two samples come from one distribution (MMD), does a sample come from a model (KSD)?

Both compare the statistic with what it is when the labels or signs mean nothing, and count the statistic itself as one of
the draws: P(p-value <= level) <= level then holds for any n, exactly for permutations.
"""

from __future__ import annotations

import torch
from torch import Tensor

from codelength.divergences.kernels import Kernel
from codelength.errors import UsageError


def mmd_p_value(x: Tensor, y: Tensor, kernel: Kernel, *, permutations: int = 500, generator: torch.Generator) -> float:
    """p-value of "x and y have one distribution" by permuting the labels of the pool.

    Args:
        x, y: Points, (n, D) and (m, D).
        kernel: Its bandwidth may depend on the pooled points, not on which are x.
        permutations: Draws; the smallest p-value is 1 / (permutations + 1).
        generator: Source of the permutations.

    Raises:
        UsageError: A sample is smaller than 2, or permutations is not positive.

    Reference: Gretton et al., JMLR 13, 2012, section 5. The statistic is the biased MMD². Cost: one kernel matrix of the pool and
    `permutations` products with it.
    """
    n, m = len(x), len(y)
    if min(n, m) < 2 or permutations < 1:
        raise UsageError(f"MMD test of {n} and {m} points, {permutations} permutations; wanted 2, 2 and 1 or more")
    pool = torch.cat([x, y])
    gram = kernel(pool, pool)
    # MMD² = wᵀ K w with w = 1/n on one side, −1/m on the other; column 0 keeps the labels as they are.
    weights = torch.full((n + m, permutations + 1), -1 / m, dtype=gram.dtype)
    weights[:n, 0] = 1 / n
    order = torch.rand(n + m, permutations, generator=generator).argsort(0)
    weights[:, 1:].scatter_(0, order[:n], 1 / n)
    return _rank((weights * (gram @ weights)).sum(0))


def ksd_p_value(
    x: Tensor, score_p_at_x: Tensor, kernel: Kernel, *, resamples: int = 500, generator: torch.Generator
) -> float:
    """p-value of "x comes from p", p known by its score, by the wild bootstrap: random signs of the points.

    Args:
        x: Independent points, (n, D).
        score_p_at_x: ∇ log p there, (n, D).
        kernel: The kernel.
        resamples: Draws of the signs.
        generator: Source of the signs.

    Raises:
        UsageError: There are fewer than 2 points or no resamples.

    Reference: Chwialkowski et al., arXiv:1602.02964, section 4, for independent points. The level holds for large n.
    """
    if len(x) < 2 or resamples < 1:
        raise UsageError(f"KSD test of {len(x)} points, {resamples} resamples; wanted 2 and 1 or more")
    u = kernel.stein(x, x, score_p_at_x, score_p_at_x)
    signs = torch.randint(0, 2, (len(x), resamples + 1), generator=generator).to(u.dtype) * 2 - 1
    signs[:, 0] = 1
    return _rank((signs * (u @ signs)).sum(0))


def _rank(statistics: Tensor) -> float:
    """Share of draws that reach the first one, itself included; round-off of equal values does not decide."""
    first = statistics[0]
    return float((statistics >= first - 1e-12 * first.abs()).double().mean())
