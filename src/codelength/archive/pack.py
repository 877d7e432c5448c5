"""Any mix of files into an archive.

An image is coded by the known model that fits it best (`window/2`), by `planes/1`, or as the bytes of its file: small images by all of them, larger ones by
the one that is best on a sample. Images of one size go into one chunk, so that they are coded together; bytes of successive files too.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from codelength.archive.byte_codec import MAX_BYTES, encode_bytes
from codelength.archive.container import ArchiveWriter, Entry, ModelReference
from codelength.archive.models import QUICK, ImageModel, models_for, pack_model
from codelength.archive.plane_codec import encode_planes
from codelength.archive.reading import Content, list_files, read_content
from codelength.archive.window_codec import NUMBERS_PER_BYTE, encode_window
from codelength.errors import CodecError

CHUNK_SITES = 2**20
"""Sites of one chunk of small images."""
CHUNK_ITEMS = 2**16
"""Most images of a chunk; readers refuse more."""
SAMPLE_SITES = 2**15
"""Sites on which codecs are compared where a chunk has more than twice as many."""

# (bytes done, bytes in all, seconds)
Progress = Callable[[int, int, float], None]
# Chunk and position of each stored plane or run of bytes.
Span = tuple[int, int, int]
# What codes pixels: a model, or None for the codec of planes.
Method = ImageModel | None


@dataclass
class Packer:
    """Collects files and writes their chunks.

    Args:
        writer: Takes the chunks.
        runs: Runs of models to prefer.
        embed: Whether the models go into the file.
        fast: Whether the quick models alone are used, without comparing.
        workers: Lanes coded at once; see `coding.parallel`. Changes no byte.
    """

    writer: ArchiveWriter
    runs: tuple[Path, ...] = ()
    embed: bool = False
    fast: bool = False
    workers: int | None = None
    _models: dict[str, int] = field(default_factory=dict)

    def add_all(self, contents: Sequence[Content]) -> None:
        """Write files of one kind of pixels, or all bytes, in order."""
        images = [content for content in contents if content.pixels is not None]
        if images and images[0].axes:
            spans, refused = self._stack(images[0])
        else:
            spans, refused = self._images(images) if images else ({}, [])
        plain = [content for content in contents if content.pixels is None] + refused
        spans |= self._bytes(plain)
        stored_as_bytes = {content.name for content in plain}
        for content in contents:
            as_bytes = content.name in stored_as_bytes
            self.writer.directory.entries.append(
                Entry(content.name, "bytes", spans[content.name])
                if as_bytes
                else Entry(
                    content.restored,
                    content.kind,
                    spans[content.name],
                    content.dtype,
                    content.shape,
                    content.offset,
                    content.axes,
                )
            )

    def _stack(self, content: Content) -> tuple[dict[str, tuple[Span, ...]], list[Content]]:
        """Chunks of an array of images; it comes back where its bytes are smaller."""
        assert content.pixels is not None
        levels = _levels(content)
        count = max(1, min(CHUNK_ITEMS, CHUNK_SITES // max(1, content.pixels[0, 0].size)))
        spans: list[Span] = []
        method: Method | None = None
        for start in range(0, len(content.pixels), count):
            x = content.pixels[start : start + count]
            method = method or self._method(x, levels)
            payload = self._encode(x, levels, method)
            if not spans and len(payload) >= x.size * np.dtype(content.dtype).itemsize:
                return {}, [content]
            spans.append((self._add(x, levels, method, payload), 0, len(x)))
        return {content.name: tuple(spans)}, []

    def _images(self, images: list[Content]) -> tuple[dict[str, tuple[Span, ...]], list[Content]]:
        """Chunks of images of one shape and type; images whose files are smaller come back."""
        pixels = np.stack([content.pixels for content in images if content.pixels is not None])
        levels = _levels(images[0])
        channels = pixels.shape[1]
        groups = [slice(0, 3), slice(3, 4)] if channels == 4 else [slice(0, 1), slice(1, 2)] if channels == 2 else []
        coded = []
        for group in groups or [slice(0, channels)]:
            method = self._method(pixels[:, group], levels)
            coded.append((pixels[:, group], levels, method, self._encode(pixels[:, group], levels, method)))
        if sum(len(payload) for *_, payload in coded) >= sum(content.size for content in images):
            return {}, images
        indices = [self._add(*part) for part in coded]
        return {
            content.name: tuple((index, place, place + 1) for index in indices) for place, content in enumerate(images)
        }, []

    def _method(self, x: np.ndarray, levels: int) -> Method:
        """The model that codes some channels in the fewest bytes, or None for `planes/1`; judged on a sample of large chunks."""
        known: list[Method] = list(models_for(x.shape[1], levels, self.runs)) if x.size else []
        if self.fast:
            quick = [model for model in known if model is not None and model.name in QUICK]
            chosen = known[0] if self.runs and known else quick[0] if quick else None
            sample = _sample(x)
            return None if sample.size > NUMBERS_PER_BYTE * len(self._encode(sample, levels, chosen)) // 4 else chosen
        sample = _sample(x)
        sizes = [len(self._encode(sample, levels, method)) for method in [None, *known]]
        best = sizes.index(min(sizes))
        # What is nearly constant is left to the planes: readers refuse so many numbers a byte of a network.
        return None if sample.size > NUMBERS_PER_BYTE * sizes[best] // 4 else [None, *known][best]

    def _encode(self, x: np.ndarray, levels: int, method: Method) -> bytes:
        return encode_planes(x, levels) if method is None else encode_window(method.model, x, self.workers)

    def _add(self, x: np.ndarray, levels: int, method: Method, payload: bytes) -> int:
        """Write a chunk; returns its index."""
        if method is None:
            return self.writer.add_chunk("planes/1", None, x, levels, payload)
        return self.writer.add_chunk("window/2", self._reference(method), x, levels, payload)

    def _reference(self, known: ImageModel) -> int:
        """Index of a model in the directory; its weights go into the file at first sight if wanted."""
        if known.sha256 not in self._models:
            chunk = None
            if self.embed:
                content = pack_model(known)
                chunk = self._add_bytes(content[:MAX_BYTES])
                for start in range(MAX_BYTES, len(content), MAX_BYTES):
                    self._add_bytes(content[start : start + MAX_BYTES])
            self._models[known.sha256] = len(self.writer.directory.models)
            self.writer.directory.models.append(ModelReference(known.sha256, known.name, chunk))
        return self._models[known.sha256]

    def _bytes(self, contents: list[Content]) -> dict[str, tuple[Span, ...]]:
        """Chunks of the bytes of files, filled across their borders."""
        spans: dict[str, list[Span]] = {content.name: [] for content in contents}
        waiting: list[tuple[str, bytes]] = []
        held = 0
        for content in contents:
            with content.path.open("rb") as file:
                while piece := file.read(MAX_BYTES - held):
                    waiting.append((content.name, piece))
                    held += len(piece)
                    if held == MAX_BYTES:
                        self._flush(waiting, spans)
                        waiting, held = [], 0
        self._flush(waiting, spans)
        return {name: tuple(parts) for name, parts in spans.items()}

    def _flush(self, waiting: list[tuple[str, bytes]], spans: dict[str, list[Span]]) -> None:
        if not waiting:
            return
        chunk, start = self._add_bytes(b"".join(piece for _, piece in waiting)), 0
        for name, piece in waiting:
            spans[name].append((chunk, start, start + len(piece)))
            start += len(piece)

    def _add_bytes(self, content: bytes) -> int:
        return self.writer.add_chunk(
            "bytes/1", None, np.frombuffer(content, dtype=np.uint8), 256, encode_bytes(content)
        )


def pack(
    paths: Sequence[str | Path],
    output: Path,
    *,
    runs: Sequence[Path] = (),
    embed: bool = False,
    verify: bool = True,
    fast: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> int:
    """Compress files into the archive `output`, which appears whole or not at all; returns its size.

    Args:
        paths: Files and folders.
        output: The archive.
        runs: Runs whose models are preferred to those that ship.
        embed: Put the models into the file, which then needs nothing but the program.
        verify: Decode everything again and compare before the file gets its name.
        fast: Only quick models, and no comparison of codecs.
        workers: Lanes coded at once, by a process each; PyTorch's number of threads without it. Changes no byte.
        progress: Told bytes done, bytes in all, and seconds.

    Raises:
        UsageError: A path cannot be stored.
        CodecError: The file decodes to something else, or cannot be written.
    """
    files = list_files(paths)
    total = sum(path.stat().st_size for _, path in files)
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.parent / f".{output.name}.{secrets.token_hex(8)}"
    started, done = time.perf_counter(), 0
    try:
        with temporary.open("xb") as file:
            packer = Packer(ArchiveWriter(file), tuple(runs), embed, fast, workers)
            for group in _groups(files):
                packer.add_all(group)
                done += sum(content.size for content in group)
                if progress:
                    progress(done, total, time.perf_counter() - started)
            size = packer.writer.finish()
            file.flush()
            os.fsync(file.fileno())
        if verify:
            _verify(temporary, files, tuple(runs), workers)
        os.replace(temporary, output)
    except OSError as error:
        raise CodecError(f"cannot write {output}: {error.strerror}; free disk space or choose another place") from error
    finally:
        temporary.unlink(missing_ok=True)
    return size


def _groups(files: list[tuple[str, Path]]) -> Iterator[list[Content]]:
    """Files in order, successive ones of one kind of pixels together; pixels of one group at a time are held."""
    group: list[Content] = []
    key: tuple[object, ...] | None = None
    held = 0
    for name, path in files:
        content = read_content(name, path)
        shape = None if content.pixels is None else content.pixels.shape
        sites = 0 if shape is None else shape[-2] * shape[-1]
        own = (shape, content.dtype, content.kind, content.offset)
        if group and (own != key or held + sites > CHUNK_SITES or len(group) == CHUNK_ITEMS or content.axes):
            yield group
            group, held = [], 0
        group.append(content)
        key, held = own, held + sites
    if group:
        yield group


def _levels(content: Content) -> int:
    return 256 if content.dtype in ("uint8", "int8", "bool") else 2**16


def _sample(x: np.ndarray) -> np.ndarray:
    """Evenly spaced images, or the middle of a few large ones, of about SAMPLE_SITES sites."""
    count, _, height, width = x.shape
    if count * height * width <= 2 * SAMPLE_SITES:
        return x
    columns = min(width, SAMPLE_SITES // min(height, 64))
    rows = min(height, SAMPLE_SITES // columns)
    images = max(1, SAMPLE_SITES // (rows * columns))
    top, left = (height - rows) // 2, (width - columns) // 2
    return x[:: -(-count // images), :, top : top + rows, left : left + columns]


def _verify(archive: Path, files: list[tuple[str, Path]], runs: tuple[Path, ...], workers: int | None) -> None:
    """Raise CodecError unless every file comes back: bytes as bytes, images pixel for pixel."""
    from codelength.archive.unpack import OpenArchive

    opened = OpenArchive(archive, runs, workers)
    for index, (name, path) in enumerate(files):
        entry = opened.directory.entries[index]
        if entry.kind == "image":
            pixels = read_content(name, path).pixels
            same = pixels is not None and np.array_equal(opened.planes(index), pixels)
        else:
            with path.open("rb") as file:
                same = all(file.read(len(piece)) == piece for piece in opened.pieces(index)) and not file.read(1)
        if not same:
            raise CodecError(f"{path} does not come back as it was; nothing was written. Please report this")
