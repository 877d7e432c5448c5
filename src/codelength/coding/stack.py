"""The stack coder: asymmetric numeral systems, last in, first out, for codes that give bits back.

Popping symbols under a distribution from bits that look random draws from that distribution, and pushing them again restores the
bits. So a stream of earlier data can pay for random choices, and gets back what it paid: bits-back coding.

Symbols have the same tables as in `entropy`: by row of masses, by CDF along a bisection of the levels, and uniform ones. Pops of arrays
run from the first symbol to the last, pushes from the last to the first, so that each undoes the other.

The arithmetic is constriction's ANS coder: 64-bit state, 32-bit words, 24-bit frequencies.

References: Duda, arXiv:1311.2540; Townsend et al., arXiv:1901.04866 (section 2.2); constriction, arXiv:2201.01741.
"""

from __future__ import annotations

import constriction
import numpy as np

from codelength.coding.entropy import CDF, Bisection, checked_tables
from codelength.errors import CodecError

_TABLE = constriction.stream.model.Categorical(perfect=False)
_UNIFORM = constriction.stream.model.Uniform()
MAX_UNIFORM = 2**20
"""Largest size of a uniform symbol: floor(2^24 / size) then cuts at most 6 % off its frequencies, 2^12 cuts 0.02 %."""


class Stack:
    """A stack of bits.

    Args:
        stream: What `finish` gave; empty without it.

    Raises:
        CodecError: `stream` is not a whole number of 32-bit words, or ends in a zero word, which no stack does.

    Attributes:
        lowest: Fewest bits there were after a pop, since it was last set.

    >>> stack = Stack()
    >>> tables = np.array([[0.1, 0.2, 0.7], [0.9, 0.1, 0.0]])
    >>> stack.push(np.array([2, 0]), tables)
    >>> Stack(stack.finish()).pop(tables)
    array([2, 0])
    """

    def __init__(self, stream: bytes = b"") -> None:
        if len(stream) % 4:
            raise CodecError(
                f"a stream of {len(stream)} bytes; wanted 32-bit words. The file is damaged; restore a copy"
            )
        words = np.frombuffer(stream, dtype="<u4").astype(np.uint32)
        if len(words) and words[-1] == 0:
            raise CodecError("the stream ends in a zero word; the file is damaged, restore a copy")
        self._coder = constriction.stream.stack.AnsCoder(words) if len(words) else constriction.stream.stack.AnsCoder()
        self.lowest = self.bits

    @property
    def bits(self) -> int:
        """Bits on the stack."""
        return int(self._coder.num_valid_bits())

    def copy(self) -> Stack:
        """The same bits on a stack of its own."""
        other = Stack()
        other._coder, other.lowest = self._coder.clone(), self.lowest
        return other

    def finish(self) -> bytes:
        """The stream: little-endian 32-bit words, bottom first."""
        return np.asarray(self._coder.get_compressed(), dtype="<u4").tobytes()

    # --- by table ----------------------------------------------------------------------------------------------------

    def push(self, symbols: np.ndarray, tables: np.ndarray) -> None:
        """Push symbols, (M,) integers 0 .. L − 1, the last first, each under its own row of masses, (M, L).

        Raises:
            CodecError: A row is no distribution, or a symbol is outside 0 .. L − 1.
        """
        tables, symbols = checked_tables(tables), np.ascontiguousarray(symbols, dtype=np.int32)
        if not symbols.size:
            return
        if not (symbols.min() >= 0 and symbols.max() < tables.shape[1]):
            raise CodecError(
                f"symbols {symbols.min()}..{symbols.max()} leave the levels 0..{tables.shape[1] - 1} of the model"
            )
        self._coder.encode_reverse(symbols, _TABLE, tables)

    def pop(self, tables: np.ndarray) -> np.ndarray:
        """Pop symbols, (M,) int64, the first first, each under its own row of masses, (M, L)."""
        tables = checked_tables(tables)
        if not len(tables):
            return np.zeros(0, dtype=np.int64)
        out = np.asarray(self._coder.decode(_TABLE, tables)).astype(np.int64)
        self.lowest = min(self.lowest, self.bits)
        return out

    # --- by CDF ------------------------------------------------------------------------------------------------------

    def push_by_cdf(self, symbols: np.ndarray, cdf: CDF, levels: int) -> None:
        """Push symbols, (M,) integers 0 .. levels − 1, each under its own CDF: what `pop_by_cdf` gives back."""
        symbols = np.asarray(symbols, dtype=np.int64)
        bisection = Bisection(len(symbols), levels)
        halvings = []
        for middle in bisection:
            upper = symbols >= middle
            active, tables = bisection.tables(cdf)
            halvings.append((upper[active], tables))
            bisection.take(upper)
        for upper, tables in reversed(halvings):
            self.push(upper, tables)

    def pop_by_cdf(self, count: int, cdf: CDF, levels: int) -> np.ndarray:
        """Pop `count` symbols, (count,) int64, each under its own CDF."""
        bisection = Bisection(count, levels)
        for _ in bisection:
            active, tables = bisection.tables(cdf)
            upper = np.zeros(count, dtype=bool)
            upper[active] = self.pop(tables) == 1
            bisection.take(upper)
        return bisection.low

    # --- uniform -----------------------------------------------------------------------------------------------------

    def push_uniform(self, symbols: np.ndarray, sizes: np.ndarray) -> None:
        """Push symbols, (M,), each uniform on 0 .. size − 1; sizes, (M,), 1 .. 2^20."""
        sizes = _checked_sizes(sizes)
        chosen = sizes > 1  # one value takes no bits
        if chosen.any():
            self._coder.encode_reverse(np.ascontiguousarray(symbols[chosen], dtype=np.int32), _UNIFORM, sizes[chosen])

    def pop_uniform(self, sizes: np.ndarray) -> np.ndarray:
        """Pop symbols, (M,) int64, each uniform on 0 .. size − 1."""
        sizes = _checked_sizes(sizes)
        chosen, out = sizes > 1, np.zeros(len(sizes), dtype=np.int64)
        if chosen.any():
            out[chosen] = self._coder.decode(_UNIFORM, sizes[chosen])
            self.lowest = min(self.lowest, self.bits)
        return out


def _checked_sizes(sizes: np.ndarray) -> np.ndarray:
    if sizes.size and not (sizes.min() >= 1 and sizes.max() <= MAX_UNIFORM):
        raise CodecError(
            f"uniform symbols of sizes {sizes.min()}..{sizes.max()}; wanted 1..{MAX_UNIFORM}. The model's scales are "
            "out of the range that can be coded, or not finite"
        )
    return np.ascontiguousarray(sizes, dtype=np.int32)
