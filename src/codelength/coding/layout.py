"""What the items of a file were and under which names they come back.

Names come from whoever made the file, so they are checked before they touch a disk: nothing outside the output folder, no
links followed, no characters that another system reads as a path.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codelength.errors import CodecError
from codelength.space import Space

AXES = ("nchw", "nhwc", "nhw")
MAX_NAME_BYTES = 255  # of one part of a path, the limit of common file systems


@dataclass(frozen=True)
class Layout:
    """Images with their names, one array, files whose bytes follow each other, or WAV files whose samples do.

    Args:
        kind: "images", "array", "files" or "wav".
        names: Names of the images or files, relative and with forward slashes, or the single name of the array.
        axes: Order of the array's axes: "nchw", "nhwc" or "nhw" (one channel, no axis for it).
        sizes: Bytes of each file, samples of each WAV file.
        rate: Samples a second of the WAV files.
    """

    kind: str
    names: tuple[str, ...]
    axes: str = "nchw"
    sizes: tuple[int, ...] = ()
    rate: int = 0

    def to_json(self) -> dict[str, Any]:
        """The fields in a file's header.

        Raises:
            CodecError: A name is unsafe, or two images would be restored to one file.
        """
        targets = [self._target(name) for name in self.names]
        if len(set(targets)) < len(targets):
            double = next(t for i, t in enumerate(targets) if t in targets[:i])
            raise CodecError(f"two images would be restored as {double}; rename one of them, or compress their folders")
        if self.kind == "array":
            return {"kind": "array", "name": self.names[0], **({"axes": self.axes} if self.axes != "nchw" else {})}
        if self.kind == "wav":
            return {"kind": "wav", "names": list(self.names), "sizes": list(self.sizes), "rate": self.rate}
        if self.kind == "files":
            return {"kind": "files", "names": list(self.names), "sizes": list(self.sizes)}
        return {"kind": "images", "names": list(self.names)}

    @staticmethod
    def from_json(fields: dict[str, Any], items: int) -> Layout:
        """The layout of a header with `items` items.

        Raises:
            CodecError: It is none.
        """
        kind = str(fields.get("kind"))
        kind = kind if kind in ("images", "files", "wav") else "array"
        names = fields.get("names") if kind != "array" else [fields.get("name", "items.npy")]
        axes = fields.get("axes", "nchw")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or axes not in AXES:
            raise CodecError("the file is damaged: its names are no list of names. Restore it from a copy")
        if kind in ("files", "wav"):
            sizes = fields.get("sizes")
            if (
                not isinstance(sizes, list)
                or len(sizes) != len(names)
                or not all(type(size) is int and size >= 0 for size in sizes)
            ):
                raise CodecError("the file is damaged: its files have no sizes. Restore it from a copy")
            rate = fields.get("rate", 0)
            if kind == "wav" and not (type(rate) is int and 0 < rate < 2**31):
                raise CodecError("the file is damaged: its recordings have no sample rate. Restore it from a copy")
            return Layout(kind, tuple(names), sizes=tuple(sizes), rate=rate)
        if kind == "images" and len(names) != items:
            raise CodecError(f"the file is damaged: {len(names)} names for {items} items. Restore it from a copy")
        return Layout(kind, tuple(names), axes)

    def _target(self, name: str) -> str:
        """The name under which an item is restored: images are restored as PNG, files under their own."""
        if self.kind in ("files", "wav"):
            return safe_name(name)
        suffix = ".png" if self.kind == "images" else ".npy"
        return safe_name(name if name.lower().endswith(suffix) else name + suffix)

    def targets(self, folder: Path) -> list[Path]:
        """The file of each name in `folder`.

        Raises:
            CodecError: A name leaves the folder or goes through a link.
        """
        return [inside(folder, self._target(name)) for name in self.names]

    def to_nchw(self, x: np.ndarray) -> np.ndarray:
        """The array with axes (N, C, H, W)."""
        if self.axes == "nhw":
            return x[:, None]
        return x.transpose(0, 3, 1, 2) if self.axes == "nhwc" else x

    def from_nchw(self, x: np.ndarray) -> np.ndarray:
        """(N, C, H, W) back in the array's axes."""
        if self.axes == "nhw":
            return x[:, 0]
        return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if self.axes == "nhwc" else x


def array_layout(name: str, x: np.ndarray, space: Space) -> Layout:
    """The layout of an array whose items have the model's shape in one of AXES; "nchw" if they fit none."""
    channels, height, width = space.sizes
    if x.shape[1:] == (height, width) and channels == 1:
        return Layout("array", (name,), "nhw")
    if x.shape[1:] == (height, width, channels) != space.sizes:
        return Layout("array", (name,), "nhwc")
    return Layout("array", (name,))


def safe_name(name: str) -> str:
    """`name` if it is a plain relative path; see the module's docstring.

    Raises:
        CodecError: It is absolute, has `..`, an empty part, a backslash, a colon or a control character, or is too long.

    >>> safe_name("holiday/beach 1.png")
    'holiday/beach 1.png'
    """
    parts = name.split("/")
    try:
        long = any(len(part.encode()) > MAX_NAME_BYTES for part in parts)
    except UnicodeEncodeError:
        long = True  # bytes that are no text
    if (
        long
        or any(part in ("", ".", "..") for part in parts)
        or any(c in "\\:" or ord(c) < 32 or ord(c) == 127 for c in name)
    ):
        raise CodecError(
            f"the name {name!r} is refused: wanted a relative path without '..', backslash, colon or control characters "
            f"and parts of at most {MAX_NAME_BYTES} bytes; rename the file"
        )
    return name


def inside(folder: Path, name: str) -> Path:
    """`folder`/`name`, where no part below the folder is a link.

    Raises:
        CodecError: The name is unsafe, or goes through a link.
    """
    path = folder
    for part in safe_name(name).split("/"):
        path = path / part
        if path.is_symlink():
            raise CodecError(f"{path} is a link, which could lead out of {folder}; choose an empty folder")
    return path
