"""Does arithmetic matter: the same data in float64."""

from __future__ import annotations

import copy

import numpy as np
import torch

from codelength.data.dataset import Split
from codelength.evaluation.estimate import per_example_nats
from codelength.models.base import LikelihoodModel
from codelength.randomness import derive_seed
from codelength.units import bits_per_dim

FLOAT64_EXAMPLES = 32
FLOAT64_SAMPLES = 16
FLOAT64_TOLERANCE = 1e-3
"""Bits/dim beyond which a difference is worth a warning."""


def float64_difference(
    model: LikelihoodModel, split: Split, num_dims: int, *, samples: int = 1, seed: int = 0
) -> float | None:
    """Mean over a seeded sample of data of |code length in the model's dtype − code length in float64|, bits/dim.

    Both score 32 data with the same noise; a bound with 16 samples at most, since the arithmetic is the same. None for
    a foreign object that is no torch module: its arithmetic is its own.

    Raises:
        RuntimeError, TypeError: The model cannot be copied or run in float64.
    """
    from codelength.adapters.foreign import is_module

    if not is_module(model):
        return None
    if model.dtype == torch.float64:
        return 0.0
    generator = np.random.default_rng(derive_seed(seed, "float64-check"))
    indices = np.sort(generator.choice(len(split), min(FLOAT64_EXAMPLES, len(split)), replace=False))
    k = min(samples, FLOAT64_SAMPLES)
    double = copy.deepcopy(model).double()
    short, long = (per_example_nats(m, split, samples=k, seed=seed, indices=indices) for m in (model, double))
    return float(bits_per_dim(np.abs(short.code_length - long.code_length).mean(), num_dims))
