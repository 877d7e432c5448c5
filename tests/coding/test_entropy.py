"""The entropy coder: exact round trip, rate, and the bytes that docs/format.md specifies."""

from __future__ import annotations

import numpy as np
import pytest

from codelength.coding.entropy import Decoder, Encoder
from codelength.errors import CodecError

PRECISION = 24


def draw(levels: int, count: int, concentration: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random masses (count, levels) and a symbol drawn from each."""
    rng = np.random.default_rng(seed)
    p = rng.gamma(concentration, size=(count, levels)) + 1e-12
    p /= p.sum(1, keepdims=True)
    return (p.cumsum(1) < rng.random((count, 1))).sum(1).clip(0, levels - 1), p


def cdf_of(p: np.ndarray):
    cumulative = np.concatenate([np.zeros((len(p), 1)), p.cumsum(1)], axis=1)
    return lambda value: cumulative[np.arange(len(p)), value + 1]


def bound_in_bits(p: np.ndarray, symbols: np.ndarray, parts: int = 1) -> tuple[float, float]:
    """−log2 P, and an upper bound on what rounding and the end of the stream add.

    A frequency is at least p (2^24 − L), and above 1, so a symbol costs at most −log2 p + log2(1 / (1 − L / 2^24)) + the
    loss of floor, at most one part in p 2^24; the coder's own range has 32 bits or more above the precision. The stream's
    end takes 64 bits at most.
    """
    count, levels = p.shape
    own = p[np.arange(count), symbols]
    loss = levels / 2**PRECISION + 1 / (own * 2**PRECISION) + 2.0 ** (PRECISION - 32)
    return float(-np.log2(own).sum()), 64 + parts * float(loss.sum()) / np.log(2)


@pytest.mark.parametrize(("levels", "concentration"), [(2, 0.3), (3, 1.0), (17, 0.2), (256, 0.05), (1000, 0.5)])
def test_tables_round_trip_at_the_entropy(levels: int, concentration: float) -> None:
    symbols, p = draw(levels, 2000, concentration)
    encoder = Encoder()
    for part in (slice(0, 700), slice(700, 700), slice(700, None)):
        encoder.encode(symbols[part], p[part])
    stream = encoder.finish()
    decoder = Decoder(stream)
    decoded = np.concatenate([decoder.decode(p[:1]), decoder.decode(p[1:1]), decoder.decode(p[1:])])
    np.testing.assert_array_equal(decoded, symbols)
    ideal, slack = bound_in_bits(p, symbols)
    assert ideal - 32 <= 8 * len(stream) <= ideal + slack


@pytest.mark.parametrize(("levels", "concentration"), [(2, 0.3), (3, 1.0), (17, 0.2), (256, 0.05), (1000, 0.5)])
def test_cdf_codes_the_same_symbols_at_the_same_rate(levels: int, concentration: float) -> None:
    symbols, p = draw(levels, 2000, concentration)
    encoder = Encoder()
    encoder.encode_by_cdf(symbols, cdf_of(p), levels)
    stream = encoder.finish()
    np.testing.assert_array_equal(Decoder(stream).decode_by_cdf(len(symbols), cdf_of(p), levels), symbols)
    by_table = Encoder()
    by_table.encode(symbols, p)
    _, slack = bound_in_bits(p, symbols, parts=10)
    assert abs(8 * len(stream) - 8 * len(by_table.finish())) <= slack


def test_65536_levels_need_no_table() -> None:
    rng = np.random.default_rng(0)
    centre, scale = rng.uniform(0, 65536, 500), 200.0
    calls = []

    def cdf(value: np.ndarray) -> np.ndarray:
        calls.append(len(value))
        return 1 / (1 + np.exp(-np.clip((value + 0.5 - centre) / scale, -700, 700)))

    symbols = np.clip(np.round(centre + scale * rng.logistic(size=500)), 0, 65535).astype(int)
    encoder = Encoder()
    encoder.encode_by_cdf(symbols, cdf, 65536)
    stream = encoder.finish()
    assert len(calls) == 16
    np.testing.assert_array_equal(Decoder(stream).decode_by_cdf(500, cdf, 65536), symbols)
    upper = np.where(symbols == 65535, 1.0, cdf(symbols))
    lower = np.where(symbols == 0, 0.0, cdf(symbols - 1))
    assert 8 * len(stream) <= -np.log2(upper - lower).sum() + 64 + 1


@pytest.mark.parametrize("levels", [2, 5, 256, 300])
@pytest.mark.parametrize("way", ["table", "cdf"])
def test_every_level_can_be_coded_whatever_the_model_believes(levels: int, way: str) -> None:
    p = np.zeros((levels, levels))
    p[:, levels // 2] = 1.0
    symbols = np.arange(levels)
    encoder = Encoder()
    if way == "table":
        encoder.encode(symbols, p)
        decoded = Decoder(encoder.finish()).decode(p)
    else:
        encoder.encode_by_cdf(symbols, cdf_of(p), levels)
        decoded = Decoder(encoder.finish()).decode_by_cdf(levels, cdf_of(p), levels)
    np.testing.assert_array_equal(decoded, symbols)


def test_certain_symbols_cost_almost_nothing() -> None:
    p = np.zeros((10_000, 256))
    p[:, 3] = 1.0
    for way in ("table", "cdf"):
        encoder = Encoder()
        symbols = np.full(len(p), 3)
        if way == "table":
            encoder.encode(symbols, p)
        else:
            encoder.encode_by_cdf(symbols, cdf_of(p), 256)
        assert len(encoder.finish()) <= 8


@pytest.mark.parametrize(
    ("row", "symbol"),
    [([0.5, np.nan], 0), ([np.inf, 1.0], 0), ([-1e-9, 1.0], 1), ([0.0, 0.0], 0), ([0.5, 0.5], 2), ([0.5, 0.5], -1)],
)
def test_what_is_no_distribution_or_no_level_is_refused(row: list[float], symbol: int) -> None:
    with pytest.raises(CodecError):
        Encoder().encode(np.array([symbol]), np.array([row]))


def test_a_cdf_that_is_not_finite_is_refused() -> None:
    with pytest.raises(CodecError, match="not finite"):
        Encoder().encode_by_cdf(np.array([1]), lambda value: np.full(len(value), np.nan), 4)


def test_streams_that_fit_nothing_are_refused() -> None:
    with pytest.raises(CodecError, match="32-bit words"):
        Decoder(b"abc")
    with pytest.raises(CodecError, match="does not fit"):
        Decoder(b"\xff" * 12).decode(np.full((100, 5), 0.2))


def test_another_model_decodes_other_symbols() -> None:
    symbols, p = draw(17, 200, 1.0)
    encoder = Encoder()
    encoder.encode(symbols, p)
    other = p.copy()
    other[0] = p[0, ::-1]
    try:
        decoded = Decoder(encoder.finish()).decode(other)
    except CodecError:
        return
    assert not np.array_equal(decoded, symbols)


def plain_decode(stream: bytes, tables: np.ndarray) -> list[int]:
    """The decoder of docs/format.md, in integers of Python."""
    words = [int.from_bytes(stream[i : i + 4], "little") for i in range(0, len(stream), 4)] + [0, 0]
    point, position = (words[0] << 32) | words[1], 2
    words += [0] * len(tables)
    lower, size, out = 0, 2**64 - 1, []
    for row in tables:
        total = 0.0
        for mass in row:
            total += mass
        levels, below, cumulative = len(row), 0.0, [0]
        factor = (2**PRECISION - levels) / total
        for v, mass in enumerate(row):
            below += mass
            cumulative.append(int(below * factor) + v + 1)
        cumulative[-1] = 2**PRECISION
        unit = size >> PRECISION
        quantile = ((point - lower) % 2**64) // unit
        symbol = max(v for v in range(levels) if cumulative[v] <= quantile)
        out.append(symbol)
        lower = (lower + unit * cumulative[symbol]) % 2**64
        size = unit * (cumulative[symbol + 1] - cumulative[symbol])
        if size < 2**32:
            lower, size = (lower << 32) % 2**64, size << 32
            point = ((point << 32) % 2**64) | words[position]
            position += 1
    return out


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_the_bytes_are_those_of_the_specification(levels: int) -> None:
    symbols, p = draw(levels, 300, 0.1, seed=levels)
    symbols[::50] = 0  # improbable ones too
    encoder = Encoder()
    encoder.encode(symbols, p)
    assert plain_decode(encoder.finish(), p) == symbols.tolist()
