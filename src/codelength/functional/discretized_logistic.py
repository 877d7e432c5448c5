"""The discretized logistic distribution, exactly normalized for any number of levels.

Levels v = 0 .. L−1 lie at y = 2v/(L−1) − 1 in [−1, 1]; a bin is h = 1/(L−1) wide to each side and the two edge bins
are open. With a = (y − h − μ)/s and b = (y + h − μ)/s the mass of an inner bin is

    σ(b) − σ(a) = σ(b) · σ(−a) · (1 − exp(−(b − a))),

an identity whose three factors never cancel: the log mass needs neither a fallback to the density nor a clamp.
The published code takes log(max(σ(b) − σ(a), 1e-12)) and, where the mass is under 1e-5, the density at the bin's
centre times its width, which is not normalized.

Reference: PixelCNN++, arXiv:1701.05517, section 2.1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def log_scale_floor(levels: int) -> float:
    """Smallest useful log scale: a logistic this narrow puts all but 1e-3 of its mass in one bin.

    A parameter below it changes no likelihood that matters but can overflow float32. For 256 levels it is −7.04,
    the −7 of the PixelCNN++ code.

    >>> round(log_scale_floor(256), 2)
    -7.04
    """
    return -math.log(levels - 1) - 1.5


def _edges(value: Tensor, mean: Tensor, log_scale: Tensor, levels: int | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """a, b and b − a of the docstring above.

    In levels, where values are integers and their distance to the mean is rounded once, relative to itself: neighbouring
    bins then meet in float32 too. On [−1, 1] a bin of 65,536 levels is 250 units of round-off wide and the masses of a
    narrow logistic sum to 1 only to 2e-5.
    """
    half_range = (levels - 1) / 2
    inverse_scale = torch.exp(-log_scale) / half_range
    middle = (value.to(mean.dtype) - (mean + 1) * half_range) * inverse_scale
    half_width = 0.5 * inverse_scale
    return middle - half_width, middle + half_width, inverse_scale


def discretized_logistic_log_mass(value: Tensor, mean: Tensor, log_scale: Tensor, levels: int | Tensor) -> Tensor:
    """log P(value) of a logistic(mean, exp(log_scale)) integrated over the bin of `value`, elementwise.

    Args:
        value: Integers 0 .. levels − 1, broadcastable with the parameters.
        mean: Mean on the scale where the levels span [−1, 1].
        log_scale: Log of the logistic's scale, on the same scale. Bound it below by `log_scale_floor`.
        levels: Number of levels, 2 or more; a tensor where it differs from place to place.

    Returns:
        Log mass in nats, broadcast shape, in the dtype of `mean`.

    Reference: PixelCNN++, arXiv:1701.05517, eq. (2), in the stable form of this module.

    >>> v = torch.arange(256)
    >>> mean, log_scale = torch.tensor([0.3, -6.0], dtype=torch.float64)
    >>> total = discretized_logistic_log_mass(v, mean, log_scale, 256).exp().sum()
    >>> round(float(total), 12)
    1.0
    """
    a, b, width = _edges(value, mean, log_scale, levels)
    log_below_upper = logsigmoid(b)
    log_above_lower = logsigmoid(-a)
    # expm1 keeps narrow bins exact; for wide ones log(1 − tiny) is off by at most one unit of round-off, absolute.
    inner = log_below_upper + log_above_lower + torch.log(-torch.expm1(-width))
    return torch.where(value <= 0, log_below_upper, torch.where(value >= levels - 1, log_above_lower, inner))


def discretized_logistic_cdf(value: Tensor, mean: Tensor, log_scale: Tensor, levels: int | Tensor) -> Tensor:
    """P(X <= value), elementwise: 0 below level 0, exactly 1 from level `levels` − 1 on.

    Arguments as for `discretized_logistic_log_mass`; `value` may lie outside the levels.
    """
    _, b, _ = _edges(value, mean, log_scale, levels)
    cdf = torch.sigmoid(b)
    cdf = torch.where(value < 0, torch.zeros_like(cdf), cdf)
    return torch.where(value >= levels - 1, torch.ones_like(cdf), cdf)
