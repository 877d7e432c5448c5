"""Exact and near duplicates between two sets of data."""

from __future__ import annotations

import hashlib

import numpy as np

from codelength.space import Space

REDUCED = 8
SCORE = 0.97
CHUNK = 512


def exact_duplicates(x: np.ndarray, others: np.ndarray) -> float:
    """Share of x that occurs in `others`, by SHA-256 of each datum.

    >>> exact_duplicates(np.array([[1, 2], [3, 4]]), np.array([[3, 4], [5, 6]]))
    0.5
    """
    known = {_digest(row) for row in others}
    return sum(_digest(row) in known for row in x) / max(1, len(x))


def _digest(row: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(row, dtype="<i4").tobytes()).digest()


def near_duplicates(x: np.ndarray, others: np.ndarray, space: Space) -> float:
    """Share of x whose nearest neighbour in `others` is almost the same picture.

    Data are reduced to at most 8 x 8 block means (sequences to 64), contrast-normalized, and compared by correlation, also
    mirrored; a neighbour counts where the correlation exceeds 0.97 and the full data agree to 5% of the range on average.
    """
    if not len(x) or not len(others):
        return 0.0
    a, b = reduced(x, space), reduced(others, space)
    mirrored = reduced(x[..., ::-1], space) if space.kind == "image" else None
    limit, found = 0.05 * (space.levels - 1), 0
    for start in range(0, len(a), CHUNK):
        part = slice(start, start + CHUNK)
        same = _close(a[part], b, x[part], others, limit)
        if mirrored is not None:
            same |= _close(mirrored[part], b, x[part][..., ::-1], others, limit)
        found += int(same.sum())
    return found / len(a)


def _close(a: np.ndarray, b: np.ndarray, x: np.ndarray, others: np.ndarray, limit: float) -> np.ndarray:
    """Whether the nearest reduced neighbour of each row of `a` correlates above SCORE and agrees in full."""
    correlation = a @ b.T
    nearest = correlation.argmax(1)
    close = correlation[np.arange(len(a)), nearest] > SCORE
    gap = np.abs(x.astype(np.int32) - others[nearest].astype(np.int32)).reshape(len(a), -1).mean(1)
    return np.asarray(close & (gap < limit))


def reduced(x: np.ndarray, space: Space) -> np.ndarray:
    """Block means of each datum, (n, d), with mean 0 and norm 1; constant data become 0."""
    values: np.ndarray = x.astype(np.float32)
    for axis in range(2 if space.kind == "image" else 1, values.ndim):
        blocks = min(REDUCED if space.kind == "image" else REDUCED**2, values.shape[axis])
        edges = np.linspace(0, values.shape[axis], blocks + 1).astype(np.int64)[:-1]
        sizes = np.diff([*edges, values.shape[axis]])
        shape = [-1 if i == axis else 1 for i in range(values.ndim)]
        values = np.add.reduceat(values, edges, axis=axis) / sizes.reshape(shape)
    flat = values.reshape(len(values), -1)
    flat = flat - flat.mean(1, keepdims=True)
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(norm, 1e-9 + 1e-3 * (space.levels - 1)), dtype=np.float32)
