"""The codec `bytes/1`: any bytes, by an adaptive mixture of context models of orders 1 to 6.

The bytes are cut into lanes of equal length that advance together: all lanes code the same bit of their bytes at once, share the counts
and learn from each other. The number of lanes follows from the number of bytes alone.
"""

from __future__ import annotations

import numpy as np

from codelength.archive.mixing import Mixer, scramble
from codelength.coding.bits import BitCoder, BitReader, BitWriter
from codelength.errors import CodecError

STORED, MIXED = 0, 1
ORDERS = (0, 1, 2, 3, 4, 6)
BYTES_A_LANE = 512
MAX_LANES = 512
SAMPLE = 2**15
MAX_BYTES = 2**20
"""Bytes of one stream."""


def num_lanes(count: int) -> int:
    """Lanes of `count` bytes.

    >>> num_lanes(1), num_lanes(5000), num_lanes(10**6)
    (1, 9, 512)
    """
    return max(1, min(MAX_LANES, count // BYTES_A_LANE))


def encode_bytes(content: bytes) -> bytes:
    """At most MAX_BYTES bytes as a stream: never more than one byte larger than they are."""
    if len(content) > MAX_BYTES:
        raise CodecError(f"bytes/1: {len(content)} bytes; wanted at most {MAX_BYTES} a stream")
    if len(content) > 2 * SAMPLE and len(_mix(content[:SAMPLE])) > 0.98 * SAMPLE:
        return bytes([STORED]) + content  # compressed already
    mixed = _mix(content) if content else b""
    return bytes([MIXED]) + mixed if len(mixed) < len(content) else bytes([STORED]) + content


def decode_bytes(stream: bytes, count: int) -> bytes:
    """The `count` bytes of a stream.

    Raises:
        CodecError: It holds other than that many.
    """
    mode, rest = stream[:1], stream[1:]
    if mode == bytes([STORED]) and len(rest) == count:
        return rest
    if mode != bytes([MIXED]) or not 0 < count <= MAX_BYTES:
        raise CodecError(f"bytes/1: no stream of {count} bytes: the file is damaged; restore it from a copy")
    return _code(BitReader(rest), None, count).T.tobytes()[:count]


def _mix(content: bytes) -> bytes:
    lanes = num_lanes(len(content))
    steps = -(-len(content) // lanes)
    padded = np.zeros(lanes * steps, dtype=np.int64)
    padded[: len(content)] = np.frombuffer(content, dtype=np.uint8)
    writer = BitWriter()
    _code(writer, padded.reshape(lanes, steps).T, len(content))
    return writer.finish()


def _code(coder: BitCoder, values: np.ndarray | None, count: int) -> np.ndarray:
    """Code bytes (steps, lanes), given when writing."""
    lanes = num_lanes(count)
    steps = -(-count // lanes)
    table_bits = min(20, max(10, (8 * count).bit_length()))
    mixer = Mixer(len(ORDERS), table_bits, 8, keep=3)
    out = np.zeros((steps, lanes), dtype=np.uint8)
    history = np.zeros(lanes, dtype=np.uint64)
    masks = np.array([(1 << (8 * order)) - 1 for order in ORDERS], dtype=np.uint64)[:, None]
    salt = np.arange(1, len(ORDERS) + 1, dtype=np.uint64)[:, None] << np.uint64(56)
    for step in range(steps):
        contexts = scramble((history & masks) + salt)
        node = np.ones(lanes, dtype=np.int64)
        for bit in range(8):
            known = None if values is None else (values[step] >> (7 - bit)) & 1
            hashes = scramble(contexts + node.astype(np.uint64))
            node = 2 * node + mixer.code(coder, hashes, bit, known)
        out[step] = node & 255
        history = (history << np.uint64(8)) | out[step].astype(np.uint64)
    return out
