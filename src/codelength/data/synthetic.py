"""Synthetic data of known entropy: dense tables, Potts lattices, sums of numbers. Every value follows from the options and a seed.

Reference: the experiments of discrete flows, arXiv:1905.10347, section 4. Data are images of one channel: a vector of D values is 1 x D.
"""

from __future__ import annotations

import numpy as np

from codelength.data.dataset import DataSet, Split
from codelength.errors import UsageError
from codelength.randomness import derive_seed
from codelength.space import Space

SIZES = {"train": 20_000, "validation": 2_000, "test": 2_000}
LARGEST_TABLE = 2**24
LICENCE = "none needed: random numbers"


def full_rank_table(dims: int, levels: int, seed: int = 0) -> np.ndarray:
    """Masses of all levels^dims outcomes, drawn from a flat Dirichlet: no factorization holds, (levels, ..., levels) float64.

    Raises:
        UsageError: The table is larger than 2^24, or a size is out of range.
    """
    if dims < 1 or levels < 2 or levels**dims > LARGEST_TABLE:
        raise UsageError(
            f"full_rank: {levels} levels and {dims} dims; wanted 2 and 1 or more, and at most 2^24 outcomes"
        )
    weights = np.random.default_rng(derive_seed(seed, "full rank", dims, levels)).exponential(size=(levels,) * dims)
    table: np.ndarray = weights / weights.sum()
    return table


def entropy_nats(table: np.ndarray) -> float:
    """−Σ p log p of a table of masses, nats."""
    masses = table[table > 0]
    return float(-(masses * np.log(masses)).sum())


def sample_table(table: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draws from a table, (count, dims) uint8."""
    flat = np.searchsorted(np.cumsum(table.ravel()), rng.random(count), side="right").clip(max=table.size - 1)
    return np.stack(np.unravel_index(flat, table.shape), axis=1).astype(np.uint8)


def load_full_rank(*, dims: int = 2, levels: int = 10, seed: int = 0) -> DataSet:
    """Draws from one dense random table of `levels`^`dims` masses."""
    table = full_rank_table(dims, levels, seed)

    def draw(count: int, rng: np.random.Generator) -> np.ndarray:
        return sample_table(table, count, rng).reshape(count, 1, 1, dims)

    return _data_set("full_rank", Space.image(1, 1, dims, levels), draw, seed, "a random table of masses")


class Potts:
    """A square lattice with P(x) ∝ exp(β · number of equal neighbours), solved row by row.

    Args:
        side: Rows and columns.
        levels: Number of states.
        coupling: β.

    Raises:
        UsageError: A row has more than 4,096 states.
    """

    def __init__(self, side: int, levels: int, coupling: float) -> None:
        if side < 2 or levels < 2 or levels**side > 2**12:
            raise UsageError(
                f"potts: side {side}, {levels} levels; wanted 2 or more each and at most 4096 states a row"
            )
        self.rows = np.stack(np.unravel_index(np.arange(levels**side), (levels,) * side), axis=1)  # (R, side)
        inside = (self.rows[:, 1:] == self.rows[:, :-1]).sum(1)
        between = (self.rows[:, None] == self.rows[None]).sum(2)
        # Backward messages: what the rows below give to a row's states.
        step = np.exp(coupling * (between + inside[None, :]))
        message = np.ones(len(self.rows))
        self.transitions: list[np.ndarray] = []
        for _ in range(side - 1):
            joint = step * message[None, :]
            message = joint.sum(1)
            self.transitions.insert(0, joint / message[:, None])
            message = message / message.mean()
        start = np.exp(coupling * inside) * message
        self.start: np.ndarray = start / start.sum()

    def entropy_nats(self) -> float:
        """Exact entropy of the lattice: that of a Markov chain of rows."""
        total, marginal = entropy_nats(self.start), self.start
        for transition in self.transitions:
            total += float(marginal @ -(transition * np.log(transition)).sum(1))
            marginal = marginal @ transition
        return total

    def sample(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Exact draws, (count, side, side) uint8."""
        state = np.searchsorted(np.cumsum(self.start), rng.random(count)).clip(max=len(self.rows) - 1)
        found = [state]
        for transition in self.transitions:
            below = transition.cumsum(1)[state] < rng.random((count, 1))
            state = below.sum(1).clip(max=len(self.rows) - 1)
            found.append(state)
        return self.rows[np.stack(found, axis=1)].astype(np.uint8)


def load_potts(*, side: int = 4, levels: int = 3, coupling: float = 0.5, seed: int = 0) -> DataSet:
    """Exact draws from a Potts model on a square lattice with open borders."""
    lattice = Potts(side, levels, coupling)

    def draw(count: int, rng: np.random.Generator) -> np.ndarray:
        return lattice.sample(count, rng)[:, None]

    return _data_set("potts", Space.image(1, side, side, levels), draw, seed, "exact samples of a Potts model")


def draw_addition(count: int, digits: int, rng: np.random.Generator) -> np.ndarray:
    """Two numbers and their sum, characters in the order units first, a_0 b_0 c_0 a_1 b_1 c_1 ... and the last carry: (count, 1, 1, 3 digits + 1) uint8."""
    a, b = rng.integers(0, 10, (2, count, digits))
    out, carry = np.empty((count, 3 * digits + 1), dtype=np.uint8), np.zeros(count, dtype=np.int64)
    for place in range(digits):
        total = a[:, place] + b[:, place] + carry
        out[:, 3 * place : 3 * place + 3] = np.stack([a[:, place], b[:, place], total % 10], axis=1)
        carry = total // 10
    out[:, -1] = carry
    return out.reshape(count, 1, 1, -1)


def load_addition(*, digits: int = 5, seed: int = 0) -> DataSet:
    """Draws of `draw_addition`; their entropy is 2 · digits · ln 10 nats."""
    if not 1 <= digits <= 9:
        raise UsageError(f"addition: digits={digits}; wanted 1 to 9")

    def draw(count: int, rng: np.random.Generator) -> np.ndarray:
        return draw_addition(count, digits, rng)

    return _data_set("addition", Space.image(1, 1, 3 * digits + 1, 10), draw, seed, "sums of random numbers")


def _data_set(name: str, space: Space, draw: object, seed: int, source: str) -> DataSet:
    assert callable(draw)
    splits = {
        part: Split(draw(count, np.random.default_rng(derive_seed(seed, name, part)))) for part, count in SIZES.items()
    }
    return DataSet(name, space, splits, licence=LICENCE, source=source)
