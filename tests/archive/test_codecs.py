"""The codecs of archives: what comes out is what went in, at a size near what the model says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from codelength.archive import window_codec
from codelength.archive.byte_codec import MAX_BYTES, decode_bytes, encode_bytes, num_lanes
from codelength.archive.mixing import STRETCH_LIMIT, log_table, share_table
from codelength.archive.plane_codec import _bit_length, _fold, _unfold, decode_planes, encode_planes, wavefront
from codelength.archive.window_codec import (
    Tile,
    decode_window,
    decode_window_1,
    encode_window,
    lanes_of,
    sized,
    tiles_of,
)
from codelength.coding import integer_codec
from codelength.coding.bits import WHOLE, BitReader, BitWriter
from codelength.errors import CodecError

RNG = np.random.default_rng(7)


def test_bits_cost_what_their_shares_say() -> None:
    shares = RNG.integers(1, WHOLE, 5000)
    bits = (RNG.integers(0, WHOLE, 5000) >= shares).astype(np.int64)
    writer = BitWriter()
    writer.code(shares, bits)
    stream = writer.finish()
    expected = -np.log2(np.where(bits, WHOLE - shares, shares) / WHOLE).sum()
    assert expected <= 8 * len(stream) <= expected * 1.001 + 64
    np.testing.assert_array_equal(BitReader(stream).code(shares, None), bits)


def test_tables_are_logistic() -> None:
    d = np.arange(-STRETCH_LIMIT, STRETCH_LIMIT + 1) / 256
    np.testing.assert_allclose(share_table(), WHOLE / (1 + np.exp(-d)), atol=0.5001)
    assert share_table().min() >= 1
    np.testing.assert_allclose(log_table(), 256 * np.log(np.arange(1024) + 0.4), atol=0.5001)


@pytest.mark.parametrize("count", [0, 1, 2, 511, 1024, 5003])
def test_bytes_come_back(count: int) -> None:
    text = (b"abracadabra, " * 500)[:count]
    noise = RNG.bytes(count)
    for content in (text, noise):
        stream = encode_bytes(content)
        assert decode_bytes(stream, count) == content
        assert len(stream) <= count + 1
    if count > 500:
        assert len(encode_bytes(text)) < count / 4


def test_bytes_refuse_what_is_no_stream() -> None:
    for stream, count in [(b"", 3), (b"\x00ab", 3), (b"\x07abc", 3), (b"\x01abc", 5), (b"\x01abcd", MAX_BYTES + 1)]:
        with pytest.raises(CodecError):
            decode_bytes(stream, count)
    with pytest.raises(CodecError, match="at most"):
        encode_bytes(bytes(MAX_BYTES + 1))
    assert num_lanes(MAX_BYTES) == 512


def test_a_compressed_sample_is_stored() -> None:
    content = RNG.bytes(70_000)
    assert encode_bytes(content) == b"\x00" + content


@pytest.mark.parametrize("levels", [2, 3, 17, 256, 65_536])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 1, 1, 9), (1, 2, 7, 1), (2, 3, 5, 6)])
def test_planes_come_back(levels: int, shape: tuple[int, int, int, int]) -> None:
    x = RNG.integers(0, levels, shape)
    np.testing.assert_array_equal(decode_planes(encode_planes(x, levels), shape, levels), x)
    np.testing.assert_array_equal(decode_planes(encode_planes(x // 2, levels), shape, levels), x // 2)


def test_planes_learn() -> None:
    assert len(encode_planes(np.full((1, 1, 64, 64), 9), 256)) <= 12
    ramp = np.indices((40, 40)).sum(0)[None, None] * 700
    assert len(encode_planes(ramp, 65_536)) < 300


@pytest.mark.parametrize("levels", [2, 3, 256, 65_536])
def test_folding_is_one_to_one(levels: int) -> None:
    e = np.arange(levels)
    z = _fold(e, levels)
    np.testing.assert_array_equal(np.sort(z), e)
    np.testing.assert_array_equal(_unfold(z) % levels, e)
    np.testing.assert_array_equal(_bit_length(e), [int(v).bit_length() for v in e])


def test_counts_hold_any_number_of_places_at_once() -> None:
    x = np.zeros((40_000, 1, 1, 1), dtype=np.uint8)
    np.testing.assert_array_equal(decode_planes(encode_planes(x, 256), x.shape, 256), x)
    x = np.zeros((40_000, 1, 1, 2), dtype=np.uint8)
    x[::100, 0, 0, 1] = 3
    np.testing.assert_array_equal(decode_planes(encode_planes(x, 256), x.shape, 256), x)


def test_wavefronts_hold_every_site_once() -> None:
    sites = [place for t in range(9 + 3 * 6) for place in zip(*wavefront(t, 7, 9, 3), strict=True)]
    assert sorted(sites) == [(row, column) for row in range(7) for column in range(9)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 13), (14, 1), (3, 4), (20, 17)])
def test_windows_code_any_size(window_model, channels: int, size: tuple[int, int]) -> None:
    model = window_model(channels)
    x = RNG.integers(0, 256, (2, channels, *size))
    stream = encode_window(model, x)
    np.testing.assert_array_equal(decode_window(model, stream, x.shape), x)
    fitted = sized(model, *size)
    nats = -float(fitted.log_prob(torch.from_numpy(x)).sum())
    assert 8 * len(stream) == pytest.approx(nats / np.log(2), rel=0.002, abs=80)


def test_the_own_size_is_the_model_itself(window_model) -> None:
    model = window_model(3)
    x = torch.from_numpy(RNG.integers(0, 256, (2, *model.space.sizes)))
    fitted = sized(model, 12, 10)
    np.testing.assert_allclose(fitted.log_prob(x).numpy(), -_nats(model, x), rtol=0.05)
    # Rows past the middle take the middle's entry; columns keep both ends.
    torch.testing.assert_close(fitted.inputs.column.values, model.inputs.column.values)
    torch.testing.assert_close(fitted.inputs.row.values[:7], model.inputs.row.values[:7])
    assert fitted.inputs.row is not model.inputs.row


def _nats(model, x: torch.Tensor) -> np.ndarray:
    return np.array([-float(model.log_prob(one.unsqueeze(0))) for one in x])


def test_window_bytes_do_not_depend_on_the_groups(window_model, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = window_model(1), RNG.integers(0, 256, (2, 1, 9, 11))
    stream = encode_window(model, x)
    monkeypatch.setattr(window_codec, "SITES_AT_ONCE", 5)
    assert encode_window(model, x) == stream


@pytest.mark.parametrize(
    ("count", "height", "sites"), [(1, 1, 1), (1, 383, 10), (1, 384, 2**20), (3, 700, 2**18), (40, 8, 2**30)]
)
def test_lanes_hold_every_row_once(count: int, height: int, sites: int) -> None:
    lanes = lanes_of(tiles_of(count, height), sites)
    rows = [(t.image, row) for lane in lanes for t in lane for row in range(t.top, t.top + t.rows)]
    assert rows == [(image, row) for image in range(count) for row in range(height)]
    assert all(lanes)
    assert len(lanes) == max(1, min(4, sites // 2**17, len(tiles_of(count, height))))


def test_tiles_and_lanes_come_back_by_any_number_of_workers(window_model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_codec, "TILE_ROWS", 6)
    monkeypatch.setattr(window_codec, "LANE_SITES", 40)
    model, x = window_model(1), RNG.integers(0, 256, (2, 1, 16, 9))
    stream = encode_window(model, x, workers=1)
    assert stream[0] == 4
    assert encode_window(model, x, workers=2) == stream
    for workers in (1, 2):
        np.testing.assert_array_equal(decode_window(model, stream, x.shape, workers), x)
    # A tile sees nothing of the rows above it: what is there changes its own lane only.
    other = x.copy()
    other[0, :, :5] = 255 - other[0, :, :5]
    again = encode_window(model, other, workers=1)
    size = int.from_bytes(stream[1:5], "little")
    assert again[13 : 13 + size] != stream[13 : 13 + size]
    assert again[-(len(stream) - 13 - size) :] == stream[13 + size :]
    for broken in (stream[:9], bytes([3]) + stream[1:], stream[:1] + b"\xff" * 12 + stream[13:]):
        with pytest.raises(CodecError, match="lanes"):
            decode_window(model, broken, x.shape)


def test_streams_of_the_first_version_decode(window_model) -> None:
    model, x = window_model(3), RNG.integers(0, 256, (2, 3, 5, 6))
    tiles = [Tile(image, 0, 5) for image in range(2)]
    np.testing.assert_array_equal(decode_window_1(model, window_codec._encode_lane(model, x, tiles), x.shape), x)


def test_another_window_model_decodes_to_other_integers(window_model) -> None:
    x = RNG.integers(0, 256, (1, 1, 9, 11))
    stream = encode_window(window_model(1), x)
    assert not np.array_equal(decode_window(window_model(1, seed=1), stream, x.shape), x)


def test_windows_agree_with_the_integer_codec_on_size(window_model) -> None:
    model = window_model(1)
    x = torch.from_numpy(RNG.integers(0, 256, (3, 1, 12, 10)))
    ours = len(encode_window(sized(model, 12, 10), x.numpy()))
    theirs = len(integer_codec.encode(sized(model, 12, 10), x))
    assert abs(ours - theirs) <= 8
