"""Builders of dequantized densities, for the registry of systems."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from codelength.models.base import LikelihoodModel
from codelength.space import Space
from codelength.transforms.dequantization.dequantized import Dequantized
from codelength.transforms.dequantization.uniform import UniformDequantization


def uniformly_dequantized(density: Callable[..., LikelihoodModel]) -> Callable[..., Dequantized]:
    """A builder with the signature of `density` that returns it under uniform dequantization."""

    @functools.wraps(density)
    def build(space: Space, **options: Any) -> Dequantized:
        return Dequantized(density(space, **options), UniformDequantization(space.levels))

    return build
