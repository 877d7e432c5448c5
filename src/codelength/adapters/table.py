"""Conditionals of any form as one table of probabilities, (N, D, levels), in the flattening order of the data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from codelength.errors import EvaluationError
from codelength.pixels import Categorical, PixelDistribution
from codelength.space import Space


def conditional_table(result: Any, x: Tensor, space: Space, name: str = "the model") -> Tensor:
    """Probabilities of every level of every dim, as they are given: no row is normalized here.

    Args:
        result: What `conditionals(x)` returned: a PixelDistribution, a torch distribution over dims, or probabilities.
        x: The data it was asked for, (N, *shape).
        space: Their space.
        name: Name of the model, for messages.

    Returns:
        (N, D, levels), floating point.

    Raises:
        EvaluationError: It has another shape.
    """
    if isinstance(result, PixelDistribution):
        return _of_pixels(result, x - space.offset)
    if isinstance(result, Distribution):
        return _of_distribution(result, x, space, name)
    table = torch.as_tensor(np.asarray(result) if not isinstance(result, Tensor) else result)
    dims = x[0].numel()
    for wanted in ((len(x), dims, space.levels), (*x.shape, space.levels)):
        if tuple(table.shape) == wanted:
            return table.reshape(len(x), dims, space.levels)
    raise EvaluationError(
        f"{name}.conditionals returned shape {tuple(table.shape)}; wanted (N, D, levels) = {(len(x), dims, space.levels)}"
    )


def _of_pixels(distribution: PixelDistribution, levels: Tensor) -> Tensor:
    """Table of a PixelDistribution: each channel given those before it. `levels` count from 0."""
    value = levels.reshape(len(levels), *distribution.event_shape)
    channels = [distribution.channel(c, value[:, :c]).probs() for c in range(distribution.channels)]
    return torch.stack(channels, dim=1).flatten(1, -2)


def _of_distribution(distribution: Distribution, x: Tensor, space: Space, name: str) -> Tensor:
    """Table of a torch distribution: exp(log_prob) of each level; nothing says that these sum to 1."""
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    shape = tuple(distribution.batch_shape)
    wanted = (tuple(x.shape), tuple(x.flatten(1).shape))
    if shape not in wanted or len(distribution.event_shape):
        raise EvaluationError(
            f"{name}.conditionals returned a {type(distribution).__name__} of batch shape {shape} and event shape "
            f"{tuple(distribution.event_shape)}; wanted batch shape {wanted[0]} or {wanted[1]} and no event shape"
        )
    values = range(space.offset, space.offset + space.levels)
    dtype = next((p.dtype for p in _parameters(distribution)), torch.get_default_dtype())
    columns = [distribution.log_prob(torch.full(shape, float(v), dtype=dtype)).exp() for v in values]
    return torch.stack(columns, dim=-1).reshape(len(x), math.prod(x.shape[1:]), space.levels)


def _parameters(distribution: Distribution) -> list[Tensor]:
    return [v for v in vars(distribution).values() if isinstance(v, Tensor) and v.is_floating_point()]


def as_pixel_distribution(table: Tensor, space: Space) -> PixelDistribution:
    """A table (N, D, levels) as the distribution the codecs and samplers know; rows are normalized."""
    sizes = space.sizes if len(space.sizes) > 1 else (1, *space.sizes)
    logits = table.double().log().reshape(len(table), *sizes, space.levels)
    return Categorical(logits.movedim(-1, 2))
