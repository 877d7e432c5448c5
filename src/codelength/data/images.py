"""Image files to integers, exactly as stored: 8 or 16 bits, grey or RGB, nothing converted in silence."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from codelength.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
TIFF_MAGICS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
ALPHA_ADVICE = (
    "has an alpha channel, which no model here speaks of; flatten it first: "
    "`convert IN -background white -alpha remove -alpha off OUT` (ImageMagick)"
)
# What decoders raise for files that are cut short or damaged.
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, RuntimeError, struct.error, zlib.error)


def read_image(path: str | Path) -> np.ndarray:
    """Read one image file.

    A palette is looked up and 1-, 2- and 4-bit grey is spread to 8 bits; otherwise the values are the file's own.
    16-bit colour keeps its 16 bits. A rotation noted in a JPEG's EXIF is not applied.

    Args:
        path: A PNG, JPEG, WebP or TIFF file (or another that Pillow reads), of one grey or RGB image.

    Returns:
        (C, H, W), C = 1 or 3, uint8 or uint16.

    Raises:
        DataError: It is missing, damaged, cut short, or has alpha, several pages or other numbers than 8- or 16-bit
            integers; the message names the file.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} does not exist or is no file; give an image file")
    return decode_image(path.read_bytes(), str(path))


def decode_image(content: bytes, path: str) -> np.ndarray:
    """The image of a file's content, as `read_image` reads it.

    Args:
        content: The file.
        path: Its name, for messages.

    Raises:
        DataError: As `read_image`.
    """
    try:
        pixels = _decode(content, path)
    except DAMAGED as error:
        from PIL import UnidentifiedImageError  # whose message names an object in memory

        unknown = isinstance(error, UnidentifiedImageError)
        reason = "no format that is known" if unknown else " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path} cannot be read as an image ({reason}); it is cut short, damaged or no image: restore or remove it"
        ) from error
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{path} has values of type {pixels.dtype}; wanted integers of 8 or 16 bits: convert it first")
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise DataError(f"{path} has shape {pixels.shape}; wanted one grey or RGB image: split or convert it first")
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _decode(content: bytes, path: str) -> np.ndarray:
    if content.startswith(TIFF_MAGICS):
        return _decode_tiff(content, path)
    if content.startswith(PNG_MAGIC) and len(content) > 25:
        bits, colour_type = content[24], content[25]
        if colour_type in (4, 6):
            raise DataError(f"{path} {ALPHA_ADVICE}")
        if bits == 16:  # Pillow would drop the lower byte of 16-bit colour
            return _decode_png16(content, path)
    return _decode_with_pillow(content, path)


def _decode_png16(content: bytes, path: str) -> np.ndarray:
    import imagecodecs

    pixels: np.ndarray = imagecodecs.png_decode(content)
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):  # a transparent colour
        raise DataError(f"{path} {ALPHA_ADVICE}")
    return pixels


def _decode_tiff(content: bytes, path: str) -> np.ndarray:
    import tifffile

    with tifffile.TiffFile(io.BytesIO(content)) as tiff:
        if len(tiff.pages) != 1:
            raise DataError(f"{path} has {len(tiff.pages)} pages; wanted one image: split it into files first")
        page = tiff.pages[0].aspage()
        if page.extrasamples:
            raise DataError(f"{path} {ALPHA_ADVICE}")
        if page.photometric not in (
            tifffile.PHOTOMETRIC.MINISBLACK,
            tifffile.PHOTOMETRIC.RGB,
            tifffile.PHOTOMETRIC.YCBCR,
        ):
            kind = getattr(page.photometric, "name", page.photometric)
            raise DataError(f"{path} has colours of the kind {kind}; wanted grey or RGB: convert it first")
        pixels = np.asarray(page.asarray())
        return pixels.transpose(1, 2, 0) if page.axes == "SYX" else pixels


def _decode_with_pillow(content: bytes, path: str) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1:
                raise DataError(f"{path} has {frames} frames; wanted one image: split it into files first")
            image.load()
            if image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
                raise DataError(f"{path} {ALPHA_ADVICE}")
            if image.mode == "1":
                return np.asarray(image.convert("L"))
            if image.mode == "P":
                return np.asarray(image.convert("RGB"))
            if image.mode not in ("L", "RGB", "I;16"):
                raise DataError(f"{path} has colours of the kind {image.mode}; wanted grey or RGB: convert it first")
            return np.asarray(image)
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: {error}; cut it into tiles first") from error


def find_images(folder: Path) -> list[Path]:
    """Image files in a folder and its sub-folders, sorted by their path in it; hidden files are left out.

    Raises:
        DataError: The folder is missing or holds no image.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; give a folder of images")
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not found:
        raise DataError(f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)}), nor do its sub-folders")
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def load_images(paths: Iterable[str | Path]) -> list[tuple[str, np.ndarray]]:
    """Read image files and folders of them, of any sizes.

    Args:
        paths: Image files; a folder stands for all images in it, sorted by name.

    Returns:
        (name, pixels (C, H, W)) of each image in the order given. The name is the file's name, for images of a folder its
        path in the folder.

    Raises:
        DataError: As `read_image` and `find_images`.
    """
    images = []
    for path in map(Path, paths):
        if path.is_dir():
            images += [(p.relative_to(path).as_posix(), read_image(p)) for p in find_images(path)]
        else:
            images.append((path.name, read_image(path)))
    return images
