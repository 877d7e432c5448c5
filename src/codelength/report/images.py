"""Pictures of data: grids of images, maps of bits, PNG files and data URIs."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
from PIL import Image

from codelength.errors import UsageError
from codelength.space import Space

# Dark to bright, readable on both grounds and in grey: few bits are dark, many bits are bright.
HEAT_ANCHORS = ((12, 8, 38), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164))
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def to_pixels(x: np.ndarray, space: Space) -> np.ndarray:
    """Integers of `space` as 8-bit pixels, its levels spread over 0..255.

    Args:
        x: Data, (N, C, H, W) with C = 1, 3 or 4.
        space: What they are.

    Returns:
        (N, H, W, C), uint8.

    Raises:
        UsageError: The data are no images that can be shown.
    """
    if space.kind != "image" or x.ndim != 4 or x.shape[1] not in _MODES:
        raise UsageError(
            f"data of kind {space.kind!r} and shape {tuple(x.shape)} cannot be drawn; wanted images with 1, 3 or 4 channels"
        )
    scaled = (x.astype(np.float64) - space.offset) * (255 / (space.levels - 1))
    return scaled.clip(0, 255).round().astype(np.uint8).transpose(0, 2, 3, 1)


def tile(pixels: np.ndarray, columns: int | None = None, gap: int = 2, ground: int = 128) -> np.ndarray:
    """Lay images out in rows.

    Args:
        pixels: (N, H, W, C), uint8.
        columns: Images a row; the root of N, rounded up, without it.
        gap: Pixels between two images.
        ground: Grey value between them.

    Returns:
        (rows * (H + gap) + gap, columns * (W + gap) + gap, C), uint8.

    >>> tile(np.zeros((5, 4, 4, 1), dtype=np.uint8), columns=3, gap=1).shape
    (11, 16, 1)
    """
    count, height, width, channels = pixels.shape
    columns = min(columns or math.ceil(math.sqrt(count)), count)
    rows = math.ceil(count / columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), ground, dtype=np.uint8)
    for i, picture in enumerate(pixels):
        top, left = gap + (i // columns) * (height + gap), gap + (i % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def enlarge(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Repeat each pixel `factor` times each way, (..., H, W, C)."""
    return pixels.repeat(factor, axis=-3).repeat(factor, axis=-2)


def heat(values: np.ndarray, high: float) -> np.ndarray:
    """Colours of numbers between 0 (dark) and `high` (bright), numbers outside pinned to the ends.

    Args:
        values: Any shape.
        high: Value of the brightest colour, positive.

    Returns:
        (*shape, 3), uint8.
    """
    anchors = np.array(HEAT_ANCHORS, dtype=np.float64)
    place = np.clip(values / high, 0, 1) * (len(anchors) - 1)
    left = np.minimum(place.astype(int), len(anchors) - 2)
    part = (place - left)[..., None]
    return ((1 - part) * anchors[left] + part * anchors[left + 1]).round().astype(np.uint8)


def png_bytes(picture: np.ndarray) -> bytes:
    """A PNG file of (H, W, C) uint8 pixels with C = 1, 3 or 4."""
    mode = _MODES[picture.shape[-1]]
    buffer = io.BytesIO()
    Image.fromarray(picture[..., 0] if mode == "L" else picture, mode=None).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def data_uri(picture: np.ndarray) -> str:
    """The picture as a `data:` address, for a page that loads nothing."""
    return "data:image/png;base64," + base64.b64encode(png_bytes(picture)).decode()
