"""CRC-32C against its published vectors and a byte-by-byte computation."""

from __future__ import annotations

import numpy as np
import pytest

from codelength.coding.checksums import LANE_BYTES, POLYNOMIAL, crc32c


def bytewise(data: bytes) -> int:
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (POLYNOMIAL if state & 1 else 0)
    return state ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "crc"),
    [  # RFC 3720, appendix B.4
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (b"", 0),
    ],
)
def test_published_vectors(data: bytes, crc: int) -> None:
    assert crc32c(data) == crc


@pytest.mark.parametrize("length", [1, LANE_BYTES - 1, LANE_BYTES, LANE_BYTES + 1, 5 * LANE_BYTES + 17])
def test_lanes_agree_with_bytes(length: int) -> None:
    data = np.random.default_rng(length).bytes(length)
    assert crc32c(data) == bytewise(data)
    assert crc32c(data[:-1] + bytes([data[-1] ^ 1])) != crc32c(data)
