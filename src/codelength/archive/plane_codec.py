"""The codec `planes/1`: integers of any image, 2 to 65,536 levels, by adaptive context mixing. It needs no model.

A value is coded as its difference from a prediction, e = x − x̂ modulo the number of levels, folded to z = 0, 1, 2, ... for e = 0, −1, 1, ...
x̂ is the median-edge prediction (Weinberger et al. 2000, eq. (1)), moved by what the channel before missed at the same site.
The bit length of z comes first, in unary; then the bits below its highest. Sites with column + 2 · row = t see none of each other
and are coded together, and so are images of one size.
"""

from __future__ import annotations

import numpy as np

from codelength.archive.mixing import Mixer, scramble
from codelength.coding.bits import BitCoder, BitReader, BitWriter

MARGIN = 2
CONTEXTS = 6
PREFIX_BITS = 3
"""Bits under the highest whose contexts hold the bits before them."""
MAX_LENGTH = 17
SLOPE = 2


def encode_planes(x: np.ndarray, levels: int) -> bytes:
    """(N, C, H, W) integers 0 .. levels − 1 as a stream."""
    writer = BitWriter()
    _code(writer, x.astype(np.int64), x.shape, levels)
    return writer.finish()


def decode_planes(stream: bytes, shape: tuple[int, int, int, int], levels: int) -> np.ndarray:
    """The integers, int64 of `shape`, that `encode_planes` wrote.

    Raises:
        CodecError: The stream is none.
    """
    return _code(BitReader(stream), None, shape, levels)


def wavefront(time: int, height: int, width: int, slope: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the sites with column + slope · row = time, from the upper ones down."""
    first = max(0, -(-(time - width + 1) // slope))
    rows = np.arange(first, min(height - 1, time // slope) + 1)
    return rows, time - slope * rows


def _code(coder: BitCoder, x: np.ndarray | None, shape: tuple[int, ...], levels: int) -> np.ndarray:
    count, channels, height, width = shape
    # (C, N, H + 2, W + 4): a margin above and to both sides, zeros, the same for both ends.
    padded = np.zeros((channels, count, height + MARGIN, width + 2 * MARGIN), dtype=np.uint16)
    lengths = np.zeros(padded.shape, dtype=np.uint8)
    mixer = Mixer(CONTEXTS, min(18, max(8, (4 * count * channels * height * width).bit_length())), 64, keep=30)
    for time in range(width + SLOPE * (height - 1) if count * height * width else 0):
        rows, columns = wavefront(time, height, width, SLOPE)
        image = np.repeat(np.arange(count), len(rows))
        row, column = np.tile(rows, count), np.tile(columns, count)
        before, missed = np.zeros(len(row), dtype=np.int64), np.zeros(len(row), dtype=np.int64)
        for channel in range(channels):
            known = None if x is None else x[image, channel, row, column]
            at = image, row + MARGIN, column + MARGIN
            args = padded[channel], lengths[channel], at, levels, channel, before, missed
            before, missed = _code_sites(coder, mixer, known, *args)
    inside = padded[:, :, MARGIN:, MARGIN : MARGIN + width] if width else padded[:, :, MARGIN:, :0]
    return inside.swapaxes(0, 1).astype(np.int64, order="C")


def _code_sites(
    coder: BitCoder,
    mixer: Mixer,
    known: np.ndarray | None,
    plane: np.ndarray,
    lengths: np.ndarray,
    at: tuple[np.ndarray, np.ndarray, np.ndarray],
    levels: int,
    channel: int,
    before: np.ndarray,
    missed: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Code one channel at some sites; returns its values and how far the prediction missed them."""
    image, row, column = at
    north, west, corner, east = (
        plane[image, row + up, column + aside].astype(np.int64) for up, aside in ((-1, 0), (0, -1), (-1, -1), (-1, 1))
    )
    # On the first row only the west is known, in the first column only the north.
    top, left = row == MARGIN, column == MARGIN
    north, corner = np.where(top, west, north), np.where(top, west, np.where(left, north, corner))
    west = np.where(left, north, west)
    low, high = np.minimum(north, west), np.maximum(north, west)
    edge = np.where(corner >= high, low, np.where(corner <= low, high, north + west - corner))
    prediction = (edge + missed).clip(0, levels - 1)
    activity = _log(np.abs(west - corner) + np.abs(north - corner) + np.abs(north - east))
    around = lengths[image, row, column - 1].astype(np.int64) * 18 + lengths[image, row - 1, column]
    slopes = _signed_log(west - corner) * 64 + _signed_log(north - corner)
    contexts = _hash(
        [
            activity,
            activity * 64 + _signed_log(missed),
            _pair(west, north) * levels + before,
            _pair(_pair(west, north) % 2**40, _pair(corner, east)) + before,
            slopes * 64 + _signed_log(east - north),
            around * 32 + activity,
        ],
        channel,
    )
    folded = None if known is None else _fold((known - prediction) % levels, levels)
    z = _code_folded(coder, mixer, folded, contexts, levels, channel)
    values = (prediction + _unfold(z)) % levels
    plane[at], lengths[at] = values, _bit_length(z)
    return values, values - edge


def _code_folded(
    coder: BitCoder, mixer: Mixer, z: np.ndarray | None, contexts: np.ndarray, levels: int, channel: int
) -> np.ndarray:
    """Code folded differences, (n,), under their contexts, (K, n)."""
    n = contexts.shape[1]
    length = np.zeros(n, dtype=np.int64)
    wanted = None if z is None else _bit_length(z)
    active = np.arange(n)
    for index in range(int(levels - 1).bit_length()):
        more = None if wanted is None else (wanted[active] > index).astype(np.int64)
        hashes = scramble(contexts[:, active] + np.uint64(index + 1))
        taken = mixer.code(coder, hashes, index + 32 * (channel > 0), more)
        active = active[taken == 1]
        length[active] += 1
        if not len(active):
            break
    out = (length > 0).astype(np.int64)
    for depth in range(MAX_LENGTH - 1):
        active = np.flatnonzero(length > depth + 1)
        if not len(active):
            break
        below = length[active] - depth - 2
        bits = None if z is None else (z[active] >> below) & 1
        node = out[active] if depth < PREFIX_BITS else np.zeros(len(active), dtype=np.int64)
        key = ((length[active] * 32 + depth) * 32 + node + 32).astype(np.uint64)
        hashes = scramble(contexts[:, active] + key)
        out[active] = 2 * out[active] + mixer.code(coder, hashes, 18 + min(depth, 12) + 32 * (channel > 0), bits)
    return out


def _hash(contexts: list[np.ndarray], channel: int) -> np.ndarray:
    stacked = np.stack(contexts).astype(np.uint64)
    salt = (np.arange(CONTEXTS, dtype=np.uint64) + np.uint64(8 * min(channel, 7) + 1)) << np.uint64(57)
    return scramble(stacked + salt[:, None])


def _pair(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a * 65_537 + b


def _fold(e: np.ndarray, levels: int) -> np.ndarray:
    """e modulo levels, 0 .. levels − 1 -> 0, 1, 2, ... for 0, −1, 1, −2, ..."""
    negative = e >= (levels + 1) // 2
    return np.where(negative, 2 * (levels - e) - 1, 2 * e)


def _unfold(z: np.ndarray) -> np.ndarray:
    return np.where(z & 1, -((z + 1) >> 1), z >> 1)


def _bit_length(values: np.ndarray) -> np.ndarray:
    """Bit length of integers 0 .. 2^52: exact, frexp reads the exponent."""
    return np.frexp(values.astype(np.float64))[1].astype(np.int64)


def _log(values: np.ndarray) -> np.ndarray:
    """About 2 log2 of integers >= 0."""
    length = _bit_length(values)
    second = (values >> np.maximum(length - 2, 0)) & 1
    return 2 * length + np.where(length > 1, second, 0)


def _signed_log(values: np.ndarray) -> np.ndarray:
    """Bit length and sign, 0 .. 35."""
    return 2 * _bit_length(np.abs(values)) + (values < 0)
