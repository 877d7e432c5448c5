"""What established lossless codecs need for the same images. Every image is decoded again and compared.

"per image" sums the sizes of single files, as a folder of images has; "whole set" is one stream of all raw integers.
"""

from __future__ import annotations

import bz2
import io
import lzma
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, Literal

import numpy as np

from codelength.coding.describe import coded_bits_per_dim
from codelength.errors import CodecError, DataError, unknown_name

Scope = Literal["per image", "whole set"]
WORKERS = 2


@dataclass(frozen=True)
class CodecResult:
    """What a codec needs for a set of images.

    Args:
        name: The codec.
        scope: "per image": sum of single files. "whole set": one stream.
        settings: How it was called.
        version: The library and its version.
        total_bytes: Size; None where the format cannot hold the data.
        bits_per_dim: Size in bits/dim, or None.
        not_applicable: Why the format cannot hold the data; empty if it can.
    """

    name: str
    scope: Scope
    settings: str
    version: str
    total_bytes: int | None
    bits_per_dim: float | None
    not_applicable: str = ""

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class ImageCodec:
    """A codec of single images.

    Args:
        name: The codec.
        settings: How it is called.
        package: Name of the distribution that holds it.
        encode: (H, W, C) or, with one channel, (H, W) -> bytes.
        decode: (bytes, shape of the array) -> the same array.
        channels: Numbers of channels it holds.
        bits: Bits a value it holds.
        overhead: Bytes of a file that are not counted.
    """

    name: str
    settings: str
    package: str
    encode: Callable[[np.ndarray], bytes]
    decode: Callable[[bytes, tuple[int, ...]], np.ndarray]
    channels: tuple[int, ...] = (1, 3, 4)
    bits: tuple[int, ...] = (8, 16)
    overhead: Callable[[bytes], int] = lambda content: 0


def codec_baselines(x: np.ndarray) -> list[CodecResult]:
    """Sizes of the same images under PNG, WebP, JPEG XL, JPEG-LS, xz and others.

    Args:
        x: uint8 or uint16, (N, C, H, W). The set-wide compressors read it in this order, 16-bit values little-endian.

    Raises:
        DataError: x is of another form.
        CodecError: A codec did not give an image back.
    """
    if x.dtype not in (np.uint8, np.uint16) or x.ndim != 4 or not x.size:
        raise DataError(f"codec baselines of {x.dtype} {x.shape}; wanted uint8 or uint16 images (N, C, H, W), N >= 1")
    with ThreadPoolExecutor(WORKERS) as pool:
        images = [_measure_images(codec, x, pool) for codec in image_codecs()]
    return images + [_measure_set(x, *compressor) for compressor in set_compressors()]


def image_codecs() -> list[ImageCodec]:
    """The codecs of single images."""
    import imagecodecs

    def jpegxl(effort: int) -> ImageCodec:
        return ImageCodec(
            f"JPEG XL e{effort}",
            f"lossless, effort {effort}",
            "imagecodecs",
            lambda image: bytes(imagecodecs.jpegxl_encode(image, lossless=True, effort=effort, numthreads=1)),
            lambda content, shape: imagecodecs.jpegxl_decode(content, numthreads=1),
        )

    return [
        ImageCodec("PNG", "optimize=True; 16-bit colour: imagecodecs, level 9", "pillow", _png, _png_decode),
        ImageCodec(
            "PNG IDAT",
            "as PNG, compressed pixels only: no signature, chunk headers or checksums",
            "pillow",
            _png,
            _png_decode,
            overhead=lambda content: len(content) - idat_bytes(content),
        ),
        ImageCodec("WebP", "lossless, quality 80, method 4, exact", "pillow", _webp, _webp_decode, (1, 3, 4), (8,)),
        jpegxl(7),
        jpegxl(9),
        ImageCodec(
            "JPEG-LS",
            "near-lossless error 0",
            "imagecodecs",
            lambda image: bytes(imagecodecs.jpegls_encode(image)),
            lambda content, shape: imagecodecs.jpegls_decode(content),
            (1, 3),
        ),
    ]


def set_compressors() -> list[tuple[str, str, str, Callable[[bytes], bytes], Callable[[bytes], bytes]]]:
    """Name, settings, version, compress, decompress of the general compressors."""
    import platform

    python = f"Python {platform.python_version()}"
    return [
        (
            "xz",
            "preset 9 extreme",
            python,
            lambda raw: lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME),
            lzma.decompress,
        ),
        ("bzip2", "level 9", python, bz2.compress, bz2.decompress),
    ]


def idat_bytes(png: bytes) -> int:
    """Bytes of compressed pixels in a PNG file, its IDAT chunks."""
    total, position = 0, 8
    while position < len(png):
        (length,) = struct.unpack_from(">I", png, position)
        total += length if png[position + 4 : position + 8] == b"IDAT" else 0
        position += length + 12
    return total


def _measure_images(codec: ImageCodec, x: np.ndarray, pool: ThreadPoolExecutor) -> CodecResult:
    library = f"{codec.package} {version(codec.package)}"
    reason = _cannot_hold(codec, x)
    if reason:
        return CodecResult(codec.name, "per image", codec.settings, library, None, None, reason)

    def size(image: np.ndarray) -> int:
        image = np.ascontiguousarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
        content = codec.encode(image)
        decoded = codec.decode(content, image.shape)
        if decoded.dtype != image.dtype or not np.array_equal(decoded, image):
            raise CodecError(
                f"{codec.name} ({codec.settings}, {library}) did not give an image back; its size means nothing"
            )
        return len(content) - codec.overhead(content)

    total = sum(pool.map(size, x))
    return CodecResult(codec.name, "per image", codec.settings, library, total, coded_bits_per_dim(total, x.size))


def image_sizes(x: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Bits that each image needs under codecs of single images, (N,) int64; codecs that cannot hold the data are left out.

    Args:
        x: uint8 or uint16, (N, C, H, W).
        names: Names of codecs in `image_codecs`.

    Raises:
        DataError: x is of another form.
        UsageError: A codec is not known.

    Nothing is decoded: `codec_baselines` holds the same codecs to account.
    """
    if x.dtype not in (np.uint8, np.uint16) or x.ndim != 4:
        raise DataError(f"image sizes of {x.dtype} {x.shape}; wanted uint8 or uint16 images (N, C, H, W)")
    known = {codec.name: codec for codec in image_codecs()}
    for name in names:
        if name not in known:
            raise unknown_name("codec", name, known)

    def bits(codec: ImageCodec, image: np.ndarray) -> int:
        content = codec.encode(np.ascontiguousarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)))
        return 8 * (len(content) - codec.overhead(content))

    able = [known[name] for name in names if not _cannot_hold(known[name], x)]
    with ThreadPoolExecutor(WORKERS) as pool:
        return {c.name: np.array(list(pool.map(partial(bits, c), x)), dtype=np.int64) for c in able}


def _cannot_hold(codec: ImageCodec, x: np.ndarray) -> str:
    channels, bits = x.shape[1], 8 * x.itemsize
    if bits not in codec.bits:
        return f"holds no {bits}-bit values"
    if channels not in codec.channels:
        return f"holds no images of {channels} channels"
    return ""


def _measure_set(
    x: np.ndarray,
    name: str,
    settings: str,
    library: str,
    compress: Callable[[bytes], bytes],
    decompress: Callable[[bytes], bytes],
) -> CodecResult:
    raw = x.astype(x.dtype.newbyteorder("<")).tobytes()
    content = compress(raw)
    if decompress(content) != raw:
        raise CodecError(f"{name} ({library}) did not give the data back; its size means nothing")
    return CodecResult(name, "whole set", settings, library, len(content), coded_bits_per_dim(len(content), x.size))


def _png(image: np.ndarray) -> bytes:
    import imagecodecs
    from PIL import Image

    if image.dtype == np.uint16 and image.ndim == 3:  # Pillow writes no 16-bit colour
        return bytes(imagecodecs.png_encode(image, level=9))
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _png_decode(content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    import imagecodecs

    image: np.ndarray = imagecodecs.png_decode(content)
    return image


def _webp(image: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    # `exact` keeps the colours under transparent pixels, which would be lost otherwise.
    Image.fromarray(image).save(buffer, "WEBP", lossless=True, exact=True)
    return buffer.getvalue()


def _webp_decode(content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """WebP has no grey images and drops an opaque alpha; both are recognized by the shape that went in."""
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        pixels = np.asarray(image.convert("RGBA") if shape[2:] == (4,) else image)
    grey = len(shape) == 2 and bool((pixels == pixels[:, :, :1]).all())
    return pixels[:, :, 0] if grey else pixels
