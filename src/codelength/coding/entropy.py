"""The entropy coder: a range coder, one stream of bytes for symbols that each have their own distribution.

Symbols are coded in one of two ways, the same on both sides:

- by table: a row of masses a symbol. Row p over L levels becomes integer cumulative frequencies at 24 bits,
      c_v = floor(F_v · (2^24 − L) / F_L) + v,     F_v = p_0 + ... + p_{v−1} added from left to right in float64,
  so that every level has a frequency of at least 1 and the encoder can code any level whatever the model believes;
- by CDF: the CDF is evaluated on demand along a bisection of the levels. Each halving is one binary symbol with
  its own two-row table, so a symbol of L levels costs ceil(log2 L) evaluations of the CDF instead of a table of L
  masses: 16 instead of 65,536. Conditional halves also keep masses under 2^−24 from being rounded up to it.

The arithmetic is constriction's range coder: 64-bit state, 32-bit words, first in, first out. Its bytes are specified in
docs/format.md and repeated by a plain coder in the tests. What it adds to −log2 P, measured and expected: the cut of the
interval to 24 bits, 1.3e-4 bits a coded symbol on average, and so 1.0e-3 bits a value of 256 levels coded by CDF; the floor
of the frequencies, at most 2.2e-5 bits a symbol of 256 levels; and at most 64 bits at the stream's end.

Reference: Martin, "Range encoding: an algorithm for removing redundancy from a digitised message", 1979; constriction,
arXiv:2201.01741.
"""

from __future__ import annotations

from collections.abc import Callable

import constriction
import numpy as np

from codelength.errors import CodecError

# (M,) integers -> (M,) float64: P(X <= value), each under its own distribution. The two sides call it alike.
CDF = Callable[[np.ndarray], np.ndarray]

_FAMILY = constriction.stream.model.Categorical(perfect=False)


class Encoder:
    """Turns symbols into bytes.

    >>> encoder = Encoder()
    >>> encoder.encode(np.array([2, 0]), np.array([[0.1, 0.2, 0.7], [0.9, 0.1, 0.0]]))
    >>> decoder = Decoder(encoder.finish())
    >>> decoder.decode(np.array([[0.1, 0.2, 0.7], [0.9, 0.1, 0.0]]))
    array([2, 0])
    """

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    def encode(self, symbols: np.ndarray, tables: np.ndarray) -> None:
        """Append symbols, each under its own row of masses.

        Args:
            symbols: (M,) integers 0 .. L − 1.
            tables: (M, L) masses, float64; a row need not sum to 1, but must be finite, nonnegative and not all 0.

        Raises:
            CodecError: A row is no distribution, or a symbol is outside 0 .. L − 1.
        """
        tables, symbols = checked_tables(tables), np.ascontiguousarray(symbols, dtype=np.int32)
        if symbols.size and not (symbols.min() >= 0 and symbols.max() < tables.shape[1]):
            raise CodecError(
                f"symbols {symbols.min()}..{symbols.max()} leave the levels 0..{tables.shape[1] - 1} of the model"
            )
        if symbols.size:
            self._coder.encode(symbols, _FAMILY, tables)

    def encode_by_cdf(self, symbols: np.ndarray, cdf: CDF, levels: int) -> None:
        """Append symbols, (M,) integers 0 .. levels − 1, each under its own CDF."""
        symbols = np.asarray(symbols, dtype=np.int64)
        bisection = Bisection(len(symbols), levels)
        for middle in bisection:
            upper = symbols >= middle
            active, tables = bisection.tables(cdf)
            self.encode(upper[active], tables)
            bisection.take(upper)

    def finish(self) -> bytes:
        """The stream: little-endian 32-bit words."""
        return np.asarray(self._coder.get_compressed(), dtype="<u4").tobytes()


class Decoder:
    """Turns the bytes of an `Encoder` back into symbols, given the same tables and CDFs in the same order.

    Raises:
        CodecError: `stream` is not a whole number of 32-bit words.
    """

    def __init__(self, stream: bytes) -> None:
        if len(stream) % 4:
            raise CodecError(
                f"a stream of {len(stream)} bytes; wanted 32-bit words. The file is damaged; restore a copy"
            )
        words = np.frombuffer(stream, dtype="<u4").astype(np.uint32)
        self._coder = constriction.stream.queue.RangeDecoder(words)

    def decode(self, tables: np.ndarray) -> np.ndarray:
        """The next symbols, (M,) int64, each under its own row of masses, (M, L).

        Raises:
            CodecError: A row is no distribution, or the stream was not written with these tables.
        """
        tables = checked_tables(tables)
        if not len(tables):
            return np.zeros(0, dtype=np.int64)
        try:
            return np.asarray(self._coder.decode(_FAMILY, tables)).astype(np.int64)
        except (AssertionError, ValueError) as error:
            raise CodecError(
                "the stream does not fit the model's probabilities: the file is damaged or this machine computes "
                "other floats than the one that wrote it; restore a copy or decode on a machine of its class"
            ) from error

    def decode_by_cdf(self, count: int, cdf: CDF, levels: int) -> np.ndarray:
        """The next `count` symbols, (count,) int64, each under its own CDF."""
        bisection = Bisection(count, levels)
        for _ in bisection:
            active, tables = bisection.tables(cdf)
            upper = np.zeros(count, dtype=bool)
            upper[active] = self.decode(tables) == 1
            bisection.take(upper)
        return bisection.low


class Bisection:
    """M intervals [low, high) of levels, halved together until each holds one level.

    Args:
        count: Number of symbols M.
        levels: Number of levels L; interval sizes differ by at most one, so all end within ceil(log2 L) halvings.
    """

    def __init__(self, count: int, levels: int) -> None:
        self.low, self.high = np.zeros(count, dtype=np.int64), np.full(count, levels, dtype=np.int64)
        # P(X < low) and P(X < high).
        self._below_low, self._below_high = np.zeros(count), np.ones(count)
        self._below_middle = np.zeros(count)

    @property
    def middle(self) -> np.ndarray:
        """First level of the upper half, (M,)."""
        return (self.low + self.high) // 2

    def __iter__(self) -> Bisection:
        return self

    def __next__(self) -> np.ndarray:
        if not np.any(self.high - self.low > 1):
            raise StopIteration
        return self.middle

    def tables(self, cdf: CDF) -> tuple[np.ndarray, np.ndarray]:
        """Which intervals still have two halves, (M,) bool, and the masses of their halves, (A, 2)."""
        active = self.high - self.low > 1
        self._below_middle = np.asarray(cdf(self.middle - 1), dtype=np.float64)
        if not np.all(np.isfinite(self._below_middle)):
            raise CodecError("the model's CDF is not finite; its weights or its outputs are not, so it cannot code")
        # Round-off may leave a half with nothing or less; if both are empty either is as good as the other.
        halves = np.stack([self._below_middle - self._below_low, self._below_high - self._below_middle], axis=1)
        halves = np.maximum(halves, 0.0)[active]
        halves[halves.sum(axis=1) < np.finfo(np.float64).tiny] = 1.0
        return active, halves

    def take(self, upper: np.ndarray) -> None:
        """Go on in the upper half where `upper`, (M,) bool, and in the lower one elsewhere."""
        middle, active = self.middle, self.high - self.low > 1
        up, down = upper & active, ~upper & active
        self.low, self._below_low = np.where(up, middle, self.low), np.where(up, self._below_middle, self._below_low)
        self.high = np.where(down, middle, self.high)
        self._below_high = np.where(down, self._below_middle, self._below_high)


def checked_tables(tables: np.ndarray) -> np.ndarray:
    """Tables as a contiguous float64 array of distributions."""
    tables = np.ascontiguousarray(tables, dtype=np.float64)
    if len(tables):
        totals = tables.sum(axis=1)
        # min and sum see NaN and infinity too: every comparison with them is false.
        if not (tables.min() >= 0 and totals.min() >= np.finfo(np.float64).tiny and totals.max() < np.inf):
            raise CodecError(
                "the model's probabilities are negative, not finite or all zero; its weights or its outputs are not "
                "finite, so it cannot code. Check the run's metrics for NaN"
            )
    return tables
