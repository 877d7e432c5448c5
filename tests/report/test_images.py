"""Pictures show the data they are made of."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from codelength.errors import UsageError
from codelength.report.images import HEAT_ANCHORS, data_uri, enlarge, heat, png_bytes, tile, to_pixels
from codelength.space import Space


def test_levels_spread_over_the_range():
    space = Space.image(1, 1, 3, levels=3, offset=-1)
    assert to_pixels(np.array([[[[-1, 0, 1]]]]), space).ravel().tolist() == [0, 128, 255]


def test_eight_bits_are_unchanged():
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5))
    pixels = to_pixels(x, Space.image(3, 4, 5))
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels.transpose(0, 3, 1, 2), x)


def test_what_cannot_be_drawn():
    with pytest.raises(UsageError, match=r"shape \(1, 2, 4, 4\) cannot be drawn"):
        to_pixels(np.zeros((1, 2, 4, 4)), Space.image(2, 4, 4))
    with pytest.raises(UsageError, match="kind 'vector'"):
        to_pixels(np.zeros((1, 4)), Space("vector", (4,), 2))


def test_tile_keeps_every_image():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3, 1), dtype=np.uint8)
    sheet = tile(pixels, columns=2, gap=1, ground=7)
    assert sheet.shape == (3 * 5 + 1, 2 * 4 + 1, 1)
    for i, picture in enumerate(pixels):
        top, left = 1 + (i // 2) * 5, 1 + (i % 2) * 4
        assert np.array_equal(sheet[top : top + 4, left : left + 3], picture)
    assert (sheet[11:, 5:] == 7).all()  # the empty sixth place


def test_enlarge():
    assert enlarge(np.array([[[1], [2]]], dtype=np.uint8), 2)[..., 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2]]


def test_heat_ends_and_order():
    colours = heat(np.array([-1.0, 0.0, 5.0, 10.0, 99.0]), 10.0)
    assert tuple(colours[0]) == tuple(colours[1]) == HEAT_ANCHORS[0]
    assert tuple(colours[3]) == tuple(colours[4]) == HEAT_ANCHORS[-1]
    grey = heat(np.linspace(0, 10, 50), 10.0).astype(float) @ [0.299, 0.587, 0.114]
    assert (np.diff(grey) > 0).all()  # brighter is more, also without colour


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_round_trip(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 7, channels), dtype=np.uint8)
    back = np.asarray(Image.open(io.BytesIO(png_bytes(pixels)))).reshape(pixels.shape)
    assert np.array_equal(back, pixels)
    head, content = data_uri(pixels).split(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(content) == png_bytes(pixels)
