"""Files as archives see them: pixels of images of any depth and alpha, integers of arrays, or bytes."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codelength.coding.layout import safe_name
from codelength.data.images import DAMAGED, IMAGE_SUFFIXES, PNG_MAGIC, read_image
from codelength.errors import DataError, UsageError

LOSSLESS_SUFFIXES = (".png", ".tif", ".tiff")
SMALLEST = 8
"""Sides of the smallest images of an array that is taken for one of images."""
ARRAY_TYPES = ("uint8", "int8", "uint16", "int16", "bool")


@dataclass(frozen=True)
class Content:
    """One file.

    Args:
        name: Name in the archive.
        path: Where it is.
        size: Its bytes.
        pixels: (C, H, W) integers from 0 up where it is an image or array that can be coded as such; None for bytes.
        dtype: Integer type of the original numbers.
        kind: "image", "array" or "bytes".
        shape: Of an array.
        offset: To be added to the levels of an array.
        axes: "nhwc", "nchw" or "nhw" where the array is one of images: then the pixels are (N, C, H, W).
        restored: Name it is restored under.
    """

    name: str
    path: Path
    size: int
    pixels: np.ndarray | None = None
    dtype: str = "uint8"
    kind: str = "bytes"
    shape: tuple[int, ...] | None = None
    offset: int = 0
    axes: str = ""

    @property
    def restored(self) -> str:
        """Name under which an image or array is written: images become PNG."""
        suffix = ".npy" if self.kind == "array" else ".png"
        return self.name if self.name.lower().endswith(suffix) else self.name + suffix


def list_files(paths: Sequence[str | Path]) -> list[tuple[str, Path]]:
    """(name, path) of each file; a folder stands for all files in it, sorted, under the folder's name.

    Raises:
        UsageError: Something is missing, is a link or no regular file, or two files have one name.
    """
    found: list[tuple[str, Path]] = []
    for path in map(Path, paths):
        if path.is_dir():
            base = path.resolve().name
            inside = sorted(Path(root) / name for root, _, names in os.walk(path) for name in names)
            found += [(f"{base}/{file.relative_to(path).as_posix()}", file) for file in inside]
        else:
            found.append((path.name, path))
    taken = set()
    for name, path in found:
        if not path.is_file() or path.is_symlink():
            raise UsageError(f"{path} does not exist, is a link or no regular file; give files and folders of files")
        if name in taken:
            raise UsageError(f"two files would be stored as {name}; rename one, or compress the folder that holds both")
        taken.add(safe_name(name))
    return found


def read_content(name: str, path: Path) -> Content:
    """A file as pixels or integers where that gives back all that its suffix promises, else as bytes.

    JPEG and WebP files stay bytes: they are smaller than their pixels in any lossless code. What cannot be read as an image or array is
    bytes too.
    """
    size = path.stat().st_size
    suffix = path.suffix.lower()
    content = Content(name, path, size)
    try:
        if suffix in LOSSLESS_SUFFIXES and suffix in IMAGE_SUFFIXES:
            pixels = read_pixels(path)
            return Content(name, path, size, pixels, pixels.dtype.name, "image")
        if suffix == ".npy":
            return _array(content)
    except (DataError, *DAMAGED):
        return content
    return content


def read_pixels(path: Path) -> np.ndarray:
    """(C, H, W) uint8 or uint16 of a PNG or TIFF file: grey, grey and alpha, RGB or RGBA.

    Raises:
        DataError: It is none of these.
    """
    head = path.read_bytes()[:32] if path.stat().st_size < 2**31 else b""
    if head.startswith(PNG_MAGIC) and len(head) > 25 and head[25] in (4, 6):
        import imagecodecs

        pixels = imagecodecs.png_decode(path.read_bytes())
        if pixels.dtype in (np.uint8, np.uint16) and pixels.ndim == 3 and pixels.shape[2] in (2, 4):
            return np.ascontiguousarray(pixels.transpose(2, 0, 1))
        raise DataError(f"{path} has shape {pixels.shape}; wanted an alpha channel")
    return read_image(path)


def _array(content: Content) -> Content:
    """An array of small integers as images; others stay bytes."""
    x = np.load(content.path, allow_pickle=False)
    if x.dtype.name not in ARRAY_TYPES or x.ndim < 2 or not x.size or npy_bytes(x) != content.path.read_bytes():
        return content
    offset = int(x.min()) if np.issubdtype(x.dtype, np.signedinteger) else 0
    levels = (x.astype(np.int64) - offset).astype(np.uint16) if offset else x.view(np.uint8) if x.dtype == bool else x
    axes = _axes(x.shape)
    if axes:
        planes = levels.transpose(0, 3, 1, 2) if axes == "nhwc" else levels if axes == "nchw" else levels[:, None]
    elif x.ndim == 2:
        planes = levels[None]
    elif x.ndim == 3 and x.shape[2] in (3, 4):
        planes = levels.transpose(2, 0, 1)
    else:
        planes = levels.reshape(1, -1, x.shape[-1])
    return Content(
        content.name,
        content.path,
        content.size,
        np.ascontiguousarray(planes),
        x.dtype.name,
        "array",
        x.shape,
        offset,
        axes,
    )


def _axes(shape: tuple[int, ...]) -> str:
    """Of an array of images, (N, H, W, 1 or 3), (N, 1 or 3, H, W) or (N, H, W) of at least 8 x 8 sites; "" for all else."""
    if len(shape) == 4 and shape[3] in (1, 3) and min(shape[1:3]) >= SMALLEST:
        return "nhwc"
    if len(shape) == 4 and shape[1] in (1, 3) and min(shape[2:]) >= SMALLEST:
        return "nchw"
    return "nhw" if len(shape) == 3 and min(shape[1:]) >= SMALLEST else ""


def restore_array(planes: np.ndarray, shape: tuple[int, ...], dtype: str, offset: int, axes: str = "") -> bytes:
    """The .npy file of what `read_content` made of it."""
    if dtype not in ARRAY_TYPES:
        raise DataError(f"an array of type {dtype!r}; wanted one of {', '.join(ARRAY_TYPES)}")
    if axes not in ("", "nhwc", "nchw", "nhw"):
        raise DataError(f"an array of axes {axes!r}; wanted nhwc, nchw or nhw")
    levels = planes.astype(np.int64) + offset if offset else planes
    if axes:
        x = levels.transpose(0, 2, 3, 1) if axes == "nhwc" else levels
    else:
        x = levels.transpose(1, 2, 0) if len(planes) > 1 else levels
    return npy_bytes(np.ascontiguousarray(x.reshape(shape)).astype(dtype))


def npy_bytes(x: np.ndarray) -> bytes:
    """An array as the content of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, x, allow_pickle=False)
    return buffer.getvalue()
