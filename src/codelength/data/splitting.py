"""Which datum goes to which split: orders and noise that no library version changes."""

from __future__ import annotations

import hashlib

import numpy as np

from codelength.data.dataset import SPLITS
from codelength.errors import UsageError
from codelength.randomness import derive_seed


def stable_random(count: int, *parts: int | str) -> np.ndarray:
    """`count` random uint64 numbers, a function of `parts`.

    NumPy promises the raw stream of a bit generator for ever, but not what `Generator` makes of it.
    """
    return np.random.Philox(key=derive_seed(*parts)).random_raw(count)


def stable_order(count: int, *parts: int | str) -> np.ndarray:
    """A random permutation of 0 .. count − 1, a function of `parts`."""
    return np.argsort(stable_random(count, *parts), kind="stable")


def stable_uniform(shape: tuple[int, ...], *parts: int | str) -> np.ndarray:
    """Uniform numbers on [0, 1) of `shape`, float64, a function of `parts`."""
    raw = stable_random(int(np.prod(shape)), *parts)
    return ((raw >> np.uint64(11)) * 2.0**-53).reshape(shape)


def content_hashes(x: np.ndarray) -> list[bytes]:
    """SHA-256 of the integers of each datum, whatever their dtype."""
    return [hashlib.sha256(np.ascontiguousarray(row, dtype="<u2").tobytes()).digest() for row in x]


def split_by_content(x: np.ndarray, validation: float, test: float, seed: int) -> dict[str, np.ndarray]:
    """Split data at random so that exact duplicates never straddle two splits.

    Distinct contents are put in an order that depends on their bytes and the seed only; test data are the first,
    validation data the next, until each has its share. So a datum's name or place in the folder changes nothing.

    Args:
        x: Data, (N, ...), non-negative integers up to 65,535.
        validation: Share of validation data.
        test: Share of test data.
        seed: Another seed gives another split.

    Returns:
        Split -> increasing indices into x.

    Raises:
        UsageError: The shares are negative or leave no training data.
    """
    if validation < 0 or test < 0 or validation + test >= 1:
        raise UsageError(
            f"validation={validation} and test={test}; wanted shares of 0 or more that add up to less than 1"
        )
    groups: dict[bytes, list[int]] = {}
    for i, key in enumerate(content_hashes(x)):
        groups.setdefault(hashlib.sha256(key + str(seed).encode()).digest(), []).append(i)
    wanted = {"test": round(test * len(x)), "validation": round(validation * len(x))}
    parts: dict[str, list[int]] = {name: [] for name in SPLITS}
    for key in sorted(groups):
        name = next((n for n in wanted if len(parts[n]) < wanted[n]), "train")
        parts[name] += groups[key]
    return {name: np.array(sorted(indices), dtype=np.int64) for name, indices in parts.items()}


def count_duplicates(splits: dict[str, np.ndarray]) -> dict[str, int]:
    """Exact duplicates: data of "A" beyond the first of their content, and data of "B in A" whose content is in A too.

    >>> count_duplicates({"train": np.array([[1], [1], [2]]), "test": np.array([[2], [3]])})
    {'train': 1, 'test': 0, 'test in train': 1}
    """
    hashes = {name: content_hashes(x) for name, x in splits.items()}
    counts = {name: len(keys) - len(set(keys)) for name, keys in hashes.items()}
    names = list(splits)
    for i, later in enumerate(names):
        for earlier in names[:i]:
            known = set(hashes[earlier])
            counts[f"{later} in {earlier}"] = sum(key in known for key in hashes[later])
    return counts
