"""Normalized distributions q fitted to points, to sample from and to compare a model with.

A `Reference` is a mixture of simple ones over x = 0 .. levels − 1, flat (n, D): uniform, a histogram of each dim, a chain along the flat
order, and kernels around the points that flip or move dims. It has a known probability of every x, and mass everywhere.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

KERNEL_POINTS = 32


class Histogram:
    """Independent dims with smoothed counts."""

    def __init__(self, points: np.ndarray, levels: int, smoothing: float = 0.5) -> None:
        dims = points.shape[1]
        counts = np.zeros((dims, levels))
        np.add.at(counts, (np.arange(dims)[None].repeat(len(points), 0), points), 1.0)
        self.table = (counts + smoothing) / (len(points) + smoothing * levels)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        rows = np.broadcast_to(np.arange(len(self.table)), (n, len(self.table)))
        return draw(self.table, rows, rng)

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        return np.log(self.table[np.arange(x.shape[1])[None], x]).sum(1)


class Uniform:
    """All data equally likely."""

    def __init__(self, dims: int, levels: int) -> None:
        self.dims, self.levels = dims, levels

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return rng.integers(self.levels, size=(n, self.dims))

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        return np.full(len(x), -self.dims * np.log(self.levels))


class Chain:
    """Each dim given the one before it in flat order: shared transitions, smoothed by the marginal."""

    def __init__(self, points: np.ndarray, levels: int) -> None:
        marginal = np.bincount(points.ravel(), minlength=levels) + 0.5
        marginal = marginal / marginal.sum()
        pairs = np.zeros((levels, levels))
        np.add.at(pairs, (points[:, :-1].ravel(), points[:, 1:].ravel()), 1.0)
        strength = min(10.0, levels)
        totals = pairs.sum(1, keepdims=True)
        self.dims = points.shape[1]
        self.first, self.next = marginal, (pairs + strength * marginal) / (totals + strength)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        x = np.empty((n, self.dims), dtype=np.int64)
        x[:, 0] = draw(self.first[None], np.zeros(n, dtype=np.int64), rng)
        for i in range(1, self.dims):
            x[:, i] = draw(self.next, x[:, i - 1], rng)
        return x

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        return np.log(self.first[x[:, 0]]) + np.log(self.next[x[:, :-1], x[:, 1:]]).sum(1)


class Kernel:
    """A point at random, each dim moved by a table of transitions (levels, levels)."""

    def __init__(self, points: np.ndarray, transitions: np.ndarray) -> None:
        self.points, self.transitions = points, transitions
        self._log = np.log(transitions)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return draw(self.transitions, self.points[rng.integers(len(self.points), size=n)], rng)

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        parts = [self._log[point[None], x].sum(1) for point in self.points]
        return np.asarray(logsumexp(np.stack(parts), axis=0) - np.log(len(self.points)))


class Flips(Kernel):
    """A point at random, each dim replaced by a uniform level with probability `share`."""

    def __init__(self, points: np.ndarray, levels: int, share: float) -> None:
        super().__init__(points, (1 - share) * np.eye(levels) + share / levels)

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        same, other = self._log[0, 0], self._log[0, 1]
        matches = np.stack([(x == point[None]).sum(1) for point in self.points])
        return np.asarray(logsumexp(matches * (same - other), axis=0) + x.shape[1] * other - np.log(len(self.points)))


def draw(tables: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A level from table row rows[j] for each j, by inversion: tables (R, levels), rows of any shape."""
    cdf, u = np.cumsum(tables, axis=1), rng.random(rows.shape)
    out = np.empty(rows.shape, dtype=np.int64)
    for row in np.unique(rows):
        here = rows == row
        out[here] = np.searchsorted(cdf[row], u[here] * cdf[row, -1], side="right")
    return np.minimum(out, tables.shape[1] - 1)


def moves(levels: int, width: float) -> np.ndarray:
    """Transitions to near levels, falling off as exp(−distance / width), with 1% uniform."""
    distance = np.abs(np.arange(levels)[:, None] - np.arange(levels)[None])
    near = np.exp(-distance / width)
    return 0.99 * near / near.sum(1, keepdims=True) + 0.01 / levels


Component = Histogram | Uniform | Chain | Kernel


class Reference:
    """A mixture with equal weights.

    Args:
        components: The distributions.
    """

    def __init__(self, components: list[Component]) -> None:
        self.components = components

    @staticmethod
    def plain(points: np.ndarray, levels: int) -> Reference:
        """Uniform and a histogram of points: quick to evaluate, for chains to start at."""
        return Reference([Uniform(points.shape[1], levels), Histogram(points, levels)])

    @staticmethod
    def fit(sets: list[np.ndarray], levels: int) -> Reference:
        """From sets of points, each (n, D) of levels 0 .. levels − 1.

        Args:
            sets: Points where the model may have mass: data, its samples, states of a chain.
            levels: Number of levels; kernels need a (levels, levels) table and are left out above 1,024.
        """
        dims = sets[0].shape[1]
        components: list[Component] = [Uniform(dims, levels)]
        for points in sets:
            components.append(Histogram(points, levels))
            if levels > 1024:
                continue
            near = points[:KERNEL_POINTS]
            components += [Flips(near, levels, share) for share in (0.02, 0.2)]
            if dims > 1:
                components.append(Chain(points, levels))
            if levels > 8:
                components += [Kernel(near, moves(levels, levels / share)) for share in (128, 24)]
        return Reference(components)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n points, (n, D), in random order of components."""
        which = rng.integers(len(self.components), size=n)
        out = np.empty((n, self.components[1].sample(1, rng).shape[1]), dtype=np.int64)
        for i, component in enumerate(self.components):
            if (which == i).any():
                out[which == i] = component.sample(int((which == i).sum()), rng)
        return out

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """Log probability of points, nats, (n,)."""
        parts = np.stack([component.log_prob(x) for component in self.components])
        return np.asarray(logsumexp(parts, axis=0) - np.log(len(self.components)))
