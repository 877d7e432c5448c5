"""Binary decisions into bytes and back, under integer probabilities: the range coder of `coding/entropy.py`.

Writer and reader have one method, so that a codec is written once and runs both ways.
"""

from __future__ import annotations

from typing import Protocol

import constriction
import numpy as np

from codelength.errors import CodecError

SHARE_BITS = 24
WHOLE = 2**SHARE_BITS

_FAMILY = constriction.stream.model.Categorical(perfect=False)


class BitCoder(Protocol):
    """Codes bits, (n,) int64 0 or 1, whose zeros have the shares, (n,) integers 1 .. 2^24 − 1 of 2^24; returns the bits."""

    def code(self, shares: np.ndarray, bits: np.ndarray | None) -> np.ndarray: ...


class BitWriter:
    """Encodes."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    def code(self, shares: np.ndarray, bits: np.ndarray | None) -> np.ndarray:
        """Append the bits."""
        if bits is None:
            raise TypeError("BitWriter: no bits to write")
        if len(bits):
            self._coder.encode(bits.astype(np.int32), _FAMILY, _tables(shares))
        return bits

    def finish(self) -> bytes:
        """The stream: little-endian 32-bit words."""
        return np.asarray(self._coder.get_compressed(), dtype="<u4").tobytes()


class BitReader:
    """Decodes a writer's stream, given the same shares.

    Raises:
        CodecError: It is no whole number of words.
    """

    def __init__(self, stream: bytes) -> None:
        if len(stream) % 4:
            raise CodecError(
                f"a stream of {len(stream)} bytes; wanted 32-bit words. The file is damaged; restore a copy"
            )
        self._coder = constriction.stream.queue.RangeDecoder(np.frombuffer(stream, dtype="<u4").astype(np.uint32))

    def code(self, shares: np.ndarray, bits: np.ndarray | None) -> np.ndarray:
        """The next bits; `bits` is not looked at."""
        if not len(shares):
            return np.zeros(0, dtype=np.int64)
        try:
            return np.asarray(self._coder.decode(_FAMILY, _tables(shares)), dtype=np.int64)
        except (AssertionError, ValueError) as error:
            raise CodecError(
                "the stream does not fit its model: the file is damaged; restore it from a copy"
            ) from error


def _tables(shares: np.ndarray) -> np.ndarray:
    tables = np.empty((len(shares), 2))
    tables[:, 0] = shares
    np.subtract(float(WHOLE), tables[:, 0], out=tables[:, 1])
    return tables
