"""A seeded sample of a split, for estimates too dear to take on all of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from codelength.data.dataset import DataSet, Split
from codelength.errors import UsageError
from codelength.randomness import derive_seed


def choose_examples(split: Split, count: int | None, seed: int) -> np.ndarray | None:
    """Sorted indices of `count` data of a split, a function of (seed, count); None where that is all of them.

    Raises:
        UsageError: count is not positive.
    """
    if count is not None and count < 1:
        raise UsageError(f"examples={count}; wanted 1 or more")
    if count is None or count >= len(split):
        return None
    generator = np.random.default_rng(derive_seed(seed, "evaluated-examples"))
    return np.sort(generator.permutation(len(split))[:count])


def of_examples(data: DataSet, split: str, indices: np.ndarray) -> DataSet:
    """The data set with the data at `indices` in place of the split."""
    whole = data.split(split)
    part = Split(
        whole.x[indices],
        None if whole.clusters is None else whole.clusters[indices],
        {name: np.asarray(values)[indices] for name, values in whole.conditions.items()},
        None if whole.intensity is None else whole.intensity[indices],
    )
    return replace(data, splits={**data.splits, split: part})
