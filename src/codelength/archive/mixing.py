"""Adaptive binary models in integers: counts by context, mixed in the logistic domain, many decisions at once.

Each of K contexts keeps two counts (n_0, n_1) for the decision at hand and says s_k = ln((n_1 + 0.4) / (n_0 + 0.4)). The
mixed probability of a one is

    p = σ(Σ_k w_k s_k),        w_k += rate · (bit − p) · s_k,

which is gradient descent on the code length. All of it runs on integers (s in 256ths of a nat, w in 2^-16, p in 24 bits), and
the tables come from exact decimal arithmetic, so both sides compute the same on any machine. Decisions coded together see the
counts and weights from before all of them.

Reference: Mahoney, "Adaptive weighing of context models for lossless data compression", 2005 (logistic mixing).
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from functools import lru_cache
from math import isqrt

import numpy as np

from codelength.coding.bits import WHOLE, BitCoder

STRETCH_LIMIT = 2815
"""Largest |Σ w s|, in 256ths of a nat: 11 nats, so that a decision costs at least 2.4e-5 bits."""
MAX_COUNT = 1023
WEIGHT_BITS = 16
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@lru_cache(maxsize=1)
def log_table() -> np.ndarray:
    """round(256 ln(n + 0.4)) for n = 0 .. MAX_COUNT, correctly rounded."""
    with localcontext(Context(prec=30)):
        values = [(256 * (Decimal(n) + Decimal("0.4")).ln()).to_integral_value(ROUND_HALF_EVEN) for n in range(1024)]
    return np.array([int(value) for value in values], dtype=np.int64)


@lru_cache(maxsize=1)
def share_table() -> np.ndarray:
    """round(2^24 σ(d / 256)) for d = −STRETCH_LIMIT .. STRETCH_LIMIT, correctly rounded."""
    out = []
    with localcontext(Context(prec=30)):
        for d in range(STRETCH_LIMIT + 1):
            share = WHOLE / (1 + (-Decimal(d) / 256).exp())
            out.append(int(share.to_integral_value(ROUND_HALF_EVEN)))
    upper = np.array(out, dtype=np.int64)
    return np.concatenate([WHOLE - upper[:0:-1], upper])


class Mixer:
    """Predicts decisions from K hashed contexts.

    Args:
        contexts: K.
        table_bits: Each context has 2^table_bits pairs of counts.
        sets: Number of sets of weights.
        keep: A count above this moves halfway to it when the other bit comes: small for text, whose statistics change.
        rate: Of the weights, in 2^-20.
    """

    def __init__(self, contexts: int, table_bits: int, sets: int, *, keep: int, rate: int = 6) -> None:
        self._shift = np.uint64(64 - table_bits)
        self._offset = (np.arange(contexts, dtype=np.int64) << table_bits)[:, None]
        # Before they are cut to MAX_COUNT, counts grow by as many places as are coded at once.
        self._counts = np.zeros(2 * contexts << table_bits, dtype=np.int32)
        self._weights = np.full((sets, contexts), int(1.3 * 2**WEIGHT_BITS) // contexts, dtype=np.int64)
        self._rate = rate
        count = np.arange(MAX_COUNT + 2, dtype=np.int64)
        self._after_other = np.where(count > keep, (count + keep) // 2, count).astype(np.int32)

    def code(self, coder: BitCoder, hashes: np.ndarray, chosen: int, bits: np.ndarray | None) -> np.ndarray:
        """Code one decision at each of n places and learn from it.

        Args:
            coder: Writer or reader.
            hashes: The contexts, (K, n) uint64 that differ in their upper bits (see `scramble`).
            chosen: Set of weights.
            bits: (n,) int64 0 or 1; None when reading.
        """
        slot = ((hashes >> self._shift).astype(np.int64) + self._offset) << 1
        logs = log_table()
        stretch = logs[self._counts[slot + 1]] - logs[self._counts[slot]]  # (K, n)
        weights = self._weights[chosen]
        mixed = ((weights[:, None] * stretch).sum(0) >> WEIGHT_BITS).clip(-STRETCH_LIMIT, STRETCH_LIMIT)
        ones = share_table()[mixed + STRETCH_LIMIT]
        bits = coder.code(WHOLE - ones, bits)
        self._learn(slot, stretch, (bits << 16) - (ones >> 8), bits, weights)
        return bits

    def _learn(
        self, slot: np.ndarray, stretch: np.ndarray, error: np.ndarray, bits: np.ndarray, weights: np.ndarray
    ) -> None:
        n = len(bits)
        if not n:
            return
        gradient = (stretch * error).sum(1) * self._rate
        weights += gradient // (isqrt(n) << 20)
        other = (slot + (1 - bits)).ravel()
        self._counts[other] = self._after_other[self._counts[other]]
        own = (slot + bits).ravel()
        np.add.at(self._counts, own, 1)
        self._counts[own] = np.minimum(self._counts[own], MAX_COUNT)


def scramble(values: np.ndarray) -> np.ndarray:
    """Spread integers over 64 bits, uint64 -> uint64."""
    mixed = (values ^ (values >> np.uint64(29))) * MULTIPLIER
    return (mixed ^ (mixed >> np.uint64(32))) * MULTIPLIER
