"""CRC-32C (Castagnoli), as in RFC 3720, appendix B.4: the checksum of headers and chunks.

A CRC without its initial and final inversion is linear: crc(A || B) = shift(crc(A), |B|) ^ crc(B). Long data are cut into
lanes of equal length whose CRCs are computed side by side, one table look-up a byte position, and then joined.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

POLYNOMIAL = 0x82F63B78  # 0x1EDC6F41, bits reversed
LANE_BYTES = 256


@lru_cache(maxsize=1)
def _byte_table() -> np.ndarray:
    """CRC of each byte alone, (256,) uint32."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(POLYNOMIAL), table >> 1)
    return table


@lru_cache(maxsize=1)
def _lane_shift() -> list[list[int]]:
    """Look-up tables of the linear map "append LANE_BYTES zero bytes", one for each byte of the state."""
    basis = np.uint32(1) << np.arange(32, dtype=np.uint32)
    table = _byte_table()
    for _ in range(LANE_BYTES):
        basis = table[basis & 255] ^ (basis >> 8)
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1  # (256, 8)
    return [
        np.bitwise_xor.reduce(np.where(bits, basis[8 * k : 8 * k + 8], 0).astype(np.uint32), axis=1).tolist()
        for k in range(4)
    ]


def crc32c(data: bytes) -> int:
    """CRC-32C of `data`, an unsigned 32-bit integer.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    head = len(data) % LANE_BYTES
    table, state = _byte_table(), 0xFFFFFFFF
    for byte in data[:head]:
        state = int(table[(state ^ byte) & 255]) ^ (state >> 8)
    if len(data) == head:
        return state ^ 0xFFFFFFFF
    lanes = np.frombuffer(data, dtype=np.uint8, offset=head).reshape(-1, LANE_BYTES).T
    crcs = np.zeros(lanes.shape[1], dtype=np.uint32)
    for column in np.ascontiguousarray(lanes):
        crcs = table[(crcs ^ column) & 255] ^ (crcs >> 8)
    t0, t1, t2, t3 = _lane_shift()
    for crc in crcs.tolist():
        state = t0[state & 255] ^ t1[state >> 8 & 255] ^ t2[state >> 16 & 255] ^ t3[state >> 24] ^ crc
    return state ^ 0xFFFFFFFF
