"""The stack: pops undo pushes, and the bytes are those of the format."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from codelength.coding.stack import Stack
from codelength.errors import CodecError


def random_stack(words: int = 4000, seed: int = 0) -> Stack:
    return Stack(np.random.default_rng(seed).integers(1, 2**32, words, dtype=np.uint32).astype("<u4").tobytes())


def normal_cdf(mean: np.ndarray):
    return lambda cell: torch.special.ndtr(torch.from_numpy((cell + 1 - 128) / 16 - mean)).numpy()


def test_pushes_undo_pops_and_pops_undo_pushes() -> None:
    rng = np.random.default_rng(1)
    tables, mean = rng.random((300, 5)), rng.normal(size=200)
    sizes = rng.integers(1, 5000, 400)
    stack = random_stack()
    before = stack.finish()
    symbols, cells, digits = stack.pop(tables), stack.pop_by_cdf(200, normal_cdf(mean), 256), stack.pop_uniform(sizes)
    between = stack.finish()
    stack.push_uniform(digits, sizes)
    stack.push_by_cdf(cells, normal_cdf(mean), 256)
    stack.push(symbols, tables)
    assert stack.finish() == before
    # Control: another order is another stack.
    stack = Stack(between)
    stack.push(symbols, tables)
    stack.push_by_cdf(cells, normal_cdf(mean), 256)
    stack.push_uniform(digits, sizes)
    assert stack.finish() != before


def test_pops_draw_from_the_distribution() -> None:
    mean = np.full(20_000, 1.0)
    cells = random_stack(60_000).pop_by_cdf(20_000, normal_cdf(mean), 256)
    z = (cells + 0.5 - 128) / 16
    assert abs(z.mean() - 1) < 4 / np.sqrt(20_000)
    assert abs(z.std() - np.sqrt(1 + 1 / 16**2 / 12)) < 4 / np.sqrt(2 * 20_000)
    digits = random_stack(60_000, 3).pop_uniform(np.full(20_000, 10))
    counts = np.bincount(digits, minlength=10)
    assert ((counts - 2000) ** 2 / 2000).sum() < 27.9  # chi squared, 9 degrees of freedom, 0.1 %


def test_lengths() -> None:
    rng = np.random.default_rng(2)
    tables, sizes = rng.random((5000, 7)), rng.integers(1, 4097, 5000)
    symbols, digits = rng.integers(0, 7, 5000), rng.integers(0, sizes)
    stack = Stack()
    stack.push(symbols, tables)
    stack.push_uniform(digits, sizes)
    share = tables[np.arange(5000), symbols] / tables.sum(1)
    wanted = -np.log2(share).sum() + np.log2(sizes).sum()
    assert abs(stack.bits - wanted) < 1e-3 * wanted
    assert 8 * len(stack.finish()) <= stack.bits + 32


class PlainDecoder:
    """The stack in plain Python, from docs/format.md."""

    def __init__(self, stream: bytes) -> None:
        self.words = [int.from_bytes(stream[i : i + 4], "little") for i in range(0, len(stream), 4)]
        self.state = 0
        self.refill()
        self.refill()

    def refill(self) -> None:
        if self.state < 2**32 and self.words:
            self.state = self.state << 32 | self.words.pop()

    def take(self, cumulative: list[int]) -> int:
        quantile = self.state % 2**24
        symbol = max(v for v, c in enumerate(cumulative[:-1]) if c <= quantile)
        low, high = cumulative[symbol], cumulative[symbol + 1]
        self.state = (self.state >> 24) * (high - low) + quantile - low
        self.refill()
        return symbol

    def by_table(self, row: np.ndarray) -> int:
        levels = len(row)
        below = np.concatenate([[0.0], np.cumsum(row)])
        scale = (2**24 - levels) / below[-1]
        return self.take([int(below[v] * scale) + v for v in range(levels)] + [2**24])

    def uniform(self, size: int) -> int:
        return self.take([v * (2**24 // size) for v in range(size)] + [2**24])


def test_bytes_are_those_of_the_format() -> None:
    rng = np.random.default_rng(3)
    tables, sizes = rng.random((50, 6)), rng.integers(2, 4097, 50)
    symbols, digits = rng.integers(0, 6, 50), rng.integers(0, sizes)
    stack = Stack()
    stack.push(symbols, tables)
    stack.push_uniform(digits, sizes)
    decoder = PlainDecoder(stack.finish())
    assert [decoder.uniform(int(size)) for size in sizes] == digits.tolist()
    assert [decoder.by_table(row) for row in tables] == symbols.tolist()
    assert (decoder.state, decoder.words) == (0, [])


def test_refusals() -> None:
    with pytest.raises(CodecError, match="32-bit words"):
        Stack(b"abc")
    with pytest.raises(CodecError, match="zero word"):
        Stack(b"abcd\0\0\0\0")
    with pytest.raises(CodecError, match="leave the levels"):
        Stack().push(np.array([2]), np.ones((1, 2)))
    with pytest.raises(CodecError, match="wanted 1"):
        Stack().pop_uniform(np.array([2**21]))
