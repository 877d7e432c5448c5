"""The container of archives: `.clen` files, version 2. docs/format.md describes every byte.

    preamble    magic, version, flags
    payloads    one stream a chunk, written as they are made
    directory   JSON, deflated: chunks, models, entries, hash of the decoded integers
    footer      sizes of the directory, seal over preamble and directory, end mark

Readers check every length against the size of the file before they allocate, and every checksum before they believe.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from codelength.coding.checksums import crc32c
from codelength.coding.container import MAGIC
from codelength.errors import CodecError

VERSION = 2
END = b"CEND"
PREAMBLE = struct.Struct("<8sBB")  # magic, version, flags
FOOTER = struct.Struct("<II16s4s")  # bytes of the directory stored and inflated, seal, end mark
MAX_DIRECTORY = 2**26
MAX_NUMBERS = 2**28
NUMBERS_PER_BYTE = 2**16
"""Numbers that a byte of payload may stand for: above what any codec here reaches, so that small files claim no large memory."""

# What directories usually say: deflate refers to it instead of repeating it. Part of the format.
DICTIONARY = (
    b'"spans":[[0,0,1]],"spans":[[1,0,1]]},{"name":"image_00.png","kind":"image","dtype":"uint16",".jpg","kind":"bytes","kind":"array"}]}'
    b'{"chunks":[{"codec":"window/1","model":0,"shape":[1,3,512,768],"levels":256,"bytes":1,"crc":2,"digest":"'
    b'{"codec":"planes/1","model":null,{"codec":"bytes/1","models":[{"sha256":"","name":"rgb","chunk":null}],"sha256":"","entries":['
)


@dataclass(frozen=True)
class Chunk:
    """One stream.

    Args:
        codec: Name and version.
        model: Index of its model in the directory; None without one.
        shape: Of its integers: (N, C, H, W), or (bytes,).
        levels: Number of levels of its integers.
        length: Bytes of the payload.
        crc: CRC-32C of the payload.
        digest: First 16 bytes of the SHA-256 of shape and integers, hex.
        offset: Where the payload starts in the file.
    """

    codec: str
    model: int | None
    shape: tuple[int, ...]
    levels: int
    length: int
    crc: int
    digest: str
    offset: int = 0

    def to_json(self) -> dict[str, Any]:
        """The fields in a directory; the offset follows from the lengths before."""
        return {
            "codec": self.codec,
            "model": self.model,
            "shape": list(self.shape),
            "levels": self.levels,
            "bytes": self.length,
            "crc": self.crc,
            "digest": self.digest,
        }


@dataclass(frozen=True)
class Entry:
    """One file.

    Args:
        name: Relative, with forward slashes.
        kind: "bytes", "image" (restored as PNG) or "array" (restored as .npy).
        spans: [chunk, start, stop] of its bytes, or of its items, whose channels are put together.
        dtype: Integer type of its pixels or numbers.
        shape: Of an array; None else.
        offset: Added to the levels of an array.
        axes: "nhwc", "nchw" or "nhw" for an array of images, whose spans hold successive ones; "" for all else.
    """

    name: str
    kind: str
    spans: tuple[tuple[int, int, int], ...]
    dtype: str = "uint8"
    shape: tuple[int, ...] | None = None
    offset: int = 0
    axes: str = ""

    def to_json(self) -> dict[str, Any]:
        """The fields in a directory, those left out that have their defaults."""
        fields: dict[str, Any] = {"name": self.name, "kind": self.kind, "spans": [list(span) for span in self.spans]}
        if self.dtype != "uint8":
            fields["dtype"] = self.dtype
        if self.shape is not None:
            fields["shape"] = list(self.shape)
        if self.offset:
            fields["offset"] = self.offset
        if self.axes:
            fields["axes"] = self.axes
        return fields


@dataclass(frozen=True)
class ModelReference:
    """A model: its hash, a name for people, and the chunk that holds it, if the file does."""

    sha256: str
    name: str
    chunk: int | None = None


@dataclass
class Directory:
    """What an archive says of its payloads."""

    chunks: list[Chunk] = field(default_factory=list)
    models: list[ModelReference] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)

    @property
    def sha256(self) -> str:
        """Hash of all decoded integers: SHA-256 of the chunks' digests, in order."""
        return hashlib.sha256("".join(chunk.digest for chunk in self.chunks).encode()).hexdigest()

    def to_bytes(self) -> bytes:
        """The JSON text."""
        fields = {
            "chunks": [chunk.to_json() for chunk in self.chunks],
            "models": [{"sha256": m.sha256, "name": m.name, "chunk": m.chunk} for m in self.models],
            "sha256": self.sha256,
            "entries": [entry.to_json() for entry in self.entries],
        }
        return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()


def integers_digest(x: np.ndarray) -> str:
    """First 16 bytes of the SHA-256 of shape and integers (bytes as bytes, all else as little-endian int32), hex."""
    digest = hashlib.sha256(repr(tuple(map(int, x.shape))).encode())
    digest.update(np.ascontiguousarray(x, dtype=np.uint8 if x.ndim == 1 else "<i4").tobytes())
    return digest.digest()[:16].hex()


class ArchiveWriter:
    """Writes an archive from front to end: chunks as they come, the directory at the end.

    Args:
        file: Binary, empty.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.directory = Directory()
        self._file = file
        self._preamble = PREAMBLE.pack(MAGIC, VERSION, 0)
        self.size = file.write(self._preamble)

    def add_chunk(self, codec: str, model: int | None, x: np.ndarray, levels: int, payload: bytes) -> int:
        """Write the stream of the integers x; returns the chunk's index."""
        chunk = Chunk(codec, model, x.shape, levels, len(payload), crc32c(payload), integers_digest(x), self.size)
        self.directory.chunks.append(chunk)
        self.size += self._file.write(payload)
        return len(self.directory.chunks) - 1

    def finish(self) -> int:
        """Write directory and footer; returns the size of the file."""
        text = self.directory.to_bytes()
        if len(text) > MAX_DIRECTORY:
            raise CodecError(
                f"a directory of {len(text)} bytes; at most {MAX_DIRECTORY}. Put fewer files into one archive"
            )
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=DICTIONARY)
        stored = deflate.compress(text) + deflate.flush()
        seal = _seal(self._preamble, stored)
        self.size += self._file.write(stored + FOOTER.pack(len(stored), len(text), seal, END))
        return self.size


def is_archive(head: bytes) -> bool:
    """Whether a file that starts so is an archive of this version (and no model's file, version 1)."""
    return head[: len(MAGIC) + 1] == MAGIC + bytes([VERSION])


def read_directory(file: BinaryIO) -> Directory:
    """The directory of a seekable file.

    Raises:
        CodecError: It is no archive, of another version, truncated or damaged.
    """
    size = file.seek(0, 2)
    preamble = read_exactly(file, 0, min(PREAMBLE.size, size))
    if len(preamble) < PREAMBLE.size or preamble[: len(MAGIC)] != MAGIC:
        raise CodecError("no .clen file: it does not start with the mark of one. Give a file that `compress` wrote")
    if preamble[len(MAGIC) :] != bytes([VERSION, 0]):
        raise CodecError(
            f"format version {preamble[8]} with flags {preamble[9]}; wanted {VERSION} and 0. Upgrade codelength"
        )
    if size < PREAMBLE.size + FOOTER.size:
        raise damaged("it ends before its directory: it is truncated")
    stored_bytes, text_bytes, seal, end = FOOTER.unpack(read_exactly(file, size - FOOTER.size, FOOTER.size))
    start = size - FOOTER.size - stored_bytes
    if end != END or start < PREAMBLE.size or text_bytes > min(MAX_DIRECTORY, 1100 * (stored_bytes + 1)):
        raise damaged("its directory is not where it should be: it is truncated or has bytes too many")
    stored = read_exactly(file, start, stored_bytes)
    if _seal(preamble, stored) != seal:
        raise damaged("its directory fails its checksum")
    return _parse(_inflate(stored, text_bytes), start)


def read_payload(file: BinaryIO, chunk: Chunk) -> bytes:
    """The stream of a chunk, checked."""
    payload = read_exactly(file, chunk.offset, chunk.length)
    if crc32c(payload) != chunk.crc:
        raise damaged(f"the chunk at byte {chunk.offset} fails its checksum")
    return payload


def read_exactly(file: BinaryIO, offset: int, length: int) -> bytes:
    """`length` bytes from `offset` on."""
    file.seek(offset)
    content = file.read(length)
    if len(content) != length:
        raise damaged(f"it ends at byte {offset + len(content)} of {offset + length}")
    return content


def damaged(what: str) -> CodecError:
    """The error for a file whose bytes cannot be right."""
    return CodecError(f"the file is damaged: {what}. Restore it from a copy")


def _seal(preamble: bytes, stored: bytes) -> bytes:
    return hashlib.sha256(preamble + stored).digest()[:16]


def _inflate(stored: bytes, length: int) -> bytes:
    inflate = zlib.decompressobj(-15, zdict=DICTIONARY)
    try:
        text = inflate.decompress(stored, length + 1)
    except zlib.error as error:
        raise damaged(f"its directory cannot be inflated ({error})") from error
    if len(text) != length or not inflate.eof or inflate.unused_data:
        raise damaged(f"its directory inflates to other than {length} bytes")
    return text


def _parse(text: bytes, end: int) -> Directory:
    """The directory of a file whose payloads end at byte `end`."""
    try:
        fields = json.loads(text)
        directory = Directory(
            models=[_parse_model(part) for part in _list(fields["models"])],
            entries=[_parse_entry(part) for part in _list(fields["entries"])],
        )
        offset = PREAMBLE.size
        for part in _list(fields["chunks"]):
            chunk = _parse_chunk(part, offset, len(directory.models))
            directory.chunks.append(chunk)
            offset += chunk.length
        _check(directory, fields["sha256"], offset, end)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise damaged(f"its directory is not one of version {VERSION} ({error})") from error
    return directory


def _check(directory: Directory, sha256: str, offset: int, end: int) -> None:
    if offset != end:
        raise ValueError(f"payloads up to byte {offset}, wanted {end}")
    if directory.sha256 != sha256:
        raise ValueError("another hash of the integers")
    for model in directory.models:
        if model.chunk is not None and not 0 <= model.chunk < len(directory.chunks):
            raise ValueError(f"a model in chunk {model.chunk}")
    for entry in directory.entries:
        for chunk, start, stop in entry.spans:
            if not 0 <= chunk < len(directory.chunks) or not 0 <= start <= stop <= directory.chunks[chunk].shape[0]:
                raise ValueError(f"{entry.name!r} in chunk {chunk}, {start}..{stop}")


def _parse_chunk(fields: Any, offset: int, models: int) -> Chunk:
    shape = tuple(_integer(size, 0, MAX_NUMBERS) for size in _list(fields["shape"]))
    length = _integer(fields["bytes"], 0, 2**32 - 1)
    numbers = math.prod(shape)
    if len(shape) not in (1, 4) or numbers > MAX_NUMBERS or numbers > NUMBERS_PER_BYTE * (length + 1):
        raise ValueError(f"a chunk of shape {shape} in {length} bytes")
    model = fields["model"]
    return Chunk(
        _text(fields["codec"]),
        None if model is None else _integer(model, 0, models - 1),
        shape,
        _integer(fields["levels"], 2, 2**16),
        length,
        _integer(fields["crc"], 0, 2**32 - 1),
        _text(fields["digest"]),
        offset,
    )


def _parse_entry(fields: Any) -> Entry:
    spans = [tuple(_integer(number, 0, MAX_NUMBERS) for number in _list(span)) for span in _list(fields["spans"])]
    if any(len(span) != 3 for span in spans):
        raise ValueError("a span of other than three numbers")
    shape = fields.get("shape")
    return Entry(
        _text(fields["name"]),
        _text(fields["kind"]),
        tuple((span[0], span[1], span[2]) for span in spans),
        _text(fields.get("dtype", "uint8")),
        None if shape is None else tuple(_integer(size, 0, MAX_NUMBERS) for size in _list(shape)),
        _integer(fields.get("offset", 0), -(2**31), 2**31),
        _text(fields.get("axes", "")),
    )


def _parse_model(fields: Any) -> ModelReference:
    chunk = fields["chunk"]
    return ModelReference(
        _text(fields["sha256"]), _text(fields["name"]), None if chunk is None else _integer(chunk, 0, MAX_NUMBERS)
    )


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{type(value).__name__} for a list")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} for a text")
    return value


def _integer(value: Any, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{value!r} for an integer in {low}..{high}")
    return value
