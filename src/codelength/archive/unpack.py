"""Archives back into files."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

from codelength.archive.byte_codec import decode_bytes
from codelength.archive.container import Chunk, Directory, damaged, integers_digest, read_directory, read_payload
from codelength.archive.models import MAX_EMBEDDED, ImageModel, find_model, unpack_model
from codelength.archive.plane_codec import decode_planes
from codelength.archive.reading import restore_array
from codelength.archive.window_codec import decode_window, decode_window_1, fits
from codelength.coding.files import png_bytes
from codelength.coding.layout import inside
from codelength.errors import CodecError, DataError
from codelength.run import write_atomically

KEPT_CHUNKS = 4
"""Decoded chunks that are kept for the files that follow."""
MAX_ITEMS = 2**16
"""Most images of a chunk."""


class OpenArchive:
    """An archive, ready to decode; a file is read by its index.

    Args:
        path: The file.
        runs: Runs whose models it may need.
        workers: Lanes decoded at once, by a process each; PyTorch's number of threads without it.

    Raises:
        CodecError: It is no whole archive.

    Attributes:
        directory: What it holds.
    """

    def __init__(self, path: Path, runs: tuple[Path, ...] = (), workers: int | None = None) -> None:
        self._path, self._runs, self._workers = path, runs, workers
        with self._open() as file:
            self.directory: Directory = read_directory(file)
            self.size = file.seek(0, 2)
        self._chunk = lru_cache(maxsize=KEPT_CHUNKS)(self._decode)
        self._model = lru_cache(maxsize=8)(self._find)

    def _open(self) -> BinaryIO:
        try:
            return self._path.open("rb")
        except OSError as error:
            raise CodecError(
                f"cannot read {self._path}: {error.strerror}; give a file that `compress` wrote"
            ) from error

    def restored(self, index: int) -> bytes:
        """The content of the file that entry `index` is restored to.

        Raises:
            CodecError: Damage, or a model that is not known here.
        """
        return b"".join(self.pieces(index))

    def pieces(self, index: int) -> Iterator[bytes]:
        """The same in pieces of a chunk each, where the file is one of bytes: it may be larger than memory."""
        entry = self.directory.entries[index]
        if entry.kind == "bytes":
            for chunk, start, stop in entry.spans:
                yield self._chunk(chunk)[start:stop].tobytes()
        else:
            yield self._pixels(index)

    def _pixels(self, index: int) -> bytes:
        """The file of an image or array."""
        entry = self.directory.entries[index]
        planes = self._stack(index) if entry.axes else self.planes(index)
        if entry.kind == "image":
            return png_bytes(planes)
        try:
            return restore_array(planes, entry.shape or (), entry.dtype, entry.offset, entry.axes)
        except (ValueError, OverflowError, DataError) as error:
            raise damaged(f"{entry.name!r} is no array ({error})") from error

    def _stack(self, index: int) -> np.ndarray:
        """The levels of an array of images, (N, C, H, W)."""
        entry = self.directory.entries[index]
        parts = [self._chunk(chunk)[start:stop] for chunk, start, stop in entry.spans]
        if entry.kind != "array" or not parts or any(part.ndim != 4 for part in parts):
            raise damaged(f"{entry.name!r} is no array of images")
        # Chunk by chunk in the narrowest type: the whole array is held once.
        narrow = np.uint8 if all(self.directory.chunks[chunk].levels <= 256 for chunk, *_ in entry.spans) else np.uint16
        try:
            return np.concatenate([part.astype(narrow) for part in parts])
        except ValueError as error:
            raise damaged(f"the images of {entry.name!r} do not fit ({error})") from error

    def planes(self, index: int) -> np.ndarray:
        """The levels of an image or array, (C, H, W)."""
        entry = self.directory.entries[index]
        parts = [self._chunk(chunk)[start:stop] for chunk, start, stop in entry.spans]
        if not parts or any(part.ndim != 4 or len(part) != 1 for part in parts):
            raise damaged(f"{entry.name!r} is no image")
        try:
            planes = np.concatenate(parts, axis=1)[0]
        except ValueError as error:
            raise damaged(f"the channels of {entry.name!r} do not fit ({error})") from error
        if entry.kind == "array":
            return planes
        if entry.kind != "image" or entry.dtype not in ("uint8", "uint16"):
            raise damaged(f"{entry.name!r} is of the kind {entry.kind!r}, type {entry.dtype!r}")
        if int(planes.max(initial=0)) > np.iinfo(entry.dtype).max:
            raise damaged(f"{entry.name!r} has values that {entry.dtype} does not hold")
        return planes.astype(entry.dtype)

    def _decode(self, index: int) -> np.ndarray:
        chunk = self.directory.chunks[index]
        with self._open() as file:
            payload = read_payload(file, chunk)
        x = self._integers(chunk, payload)
        if integers_digest(x) != chunk.digest:
            raise damaged(f"the chunk at byte {chunk.offset} decodes to other integers than were encoded")
        return x

    def _integers(self, chunk: Chunk, payload: bytes) -> np.ndarray:
        if chunk.codec == "bytes/1" and len(chunk.shape) == 1:
            return np.frombuffer(decode_bytes(payload, chunk.shape[0]), dtype=np.uint8)
        if len(chunk.shape) == 4 and all(chunk.shape):
            count, channels, height, width = chunk.shape
            if count > MAX_ITEMS:
                raise damaged(f"a chunk of {count} images; at most {MAX_ITEMS}")
            if chunk.codec == "planes/1":
                return decode_planes(payload, (count, channels, height, width), chunk.levels)
            if chunk.codec in ("window/1", "window/2") and chunk.model is not None:
                model = self._model(chunk.model).model
                if not fits(model, channels, chunk.levels):
                    raise damaged(f"its model does not speak of {channels} channels of {chunk.levels} levels")
                shape = count, channels, height, width
                if chunk.codec == "window/1":
                    return decode_window_1(model, payload, shape)
                return decode_window(model, payload, shape, self._workers)
        raise CodecError(
            f"a chunk of shape {chunk.shape} by the codec {chunk.codec!r}; this codelength knows bytes/1, planes/1, window/1 and window/2. "
            "Upgrade codelength, or restore the file from a copy"
        )

    def _find(self, index: int) -> ImageModel:
        reference = self.directory.models[index]
        if reference.chunk is None:
            return find_model(reference.sha256, reference.name, self._runs)
        content, chunk = b"", reference.chunk
        while chunk < len(self.directory.chunks) and len(content) < MAX_EMBEDDED:
            part = self._decode(chunk)
            content += part.tobytes()
            chunk += 1
            if part.ndim != 1 or len(part) < 2**20:
                break
        return unpack_model(content, reference.sha256)


def unpack(
    path: Path,
    folder: Path,
    items: slice = slice(None),
    *,
    runs: tuple[Path, ...] = (),
    overwrite: bool = False,
    workers: int | None = None,
) -> list[Path]:
    """Decode entries of an archive into files of `folder`, each whole or absent; returns them in order.

    Raises:
        CodecError: Damage, an unsafe name, a file that exists already, or a model that is not known here.
    """
    archive = OpenArchive(path, runs, workers)
    names = tuple(entry.name for entry in archive.directory.entries)
    if len(set(names)) < len(names):
        raise damaged("two of its files have one name")
    targets = [inside(folder, name) for name in names]
    wanted = range(len(names))[items]
    taken = next((targets[index] for index in wanted if targets[index].exists()), None)
    if taken is not None and not overwrite:
        raise CodecError(f"{taken} exists; choose another folder or give --overwrite")
    for index in wanted:
        write_atomically(targets[index], archive.pieces(index))
    return [targets[index] for index in wanted]
