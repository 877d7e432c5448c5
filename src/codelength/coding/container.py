"""The container: `.clen` files, version 1. docs/format.md describes every byte.

    preamble   magic, version, flags, sizes, SHA-256 of the model
    header     JSON, deflated with a preset dictionary; CRC-32C
    payloads   one stream a chunk of items
    trailer    SHA-256 of the decoded integers; for each chunk its length, items, CRC-32C and hash of its integers
    footer     length of the trailer, seal over header and trailer, end mark

Readers check every length against the size of the file before they allocate, and every checksum before they believe.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from codelength.coding.checksums import crc32c
from codelength.coding.conditions import MAX_CLASSES
from codelength.errors import CodecError
from codelength.space import Space

MAGIC = b"\x89CLEN\r\n\x1a"  # the line ends show damage by a transfer in text mode
END = b"CEND"
VERSION = 1
PREAMBLE = struct.Struct("<8sBBII32s")  # magic, version, flags, bytes of the header stored and inflated, model SHA-256
CHECKSUM = struct.Struct("<I")
ENTRY = struct.Struct("<III8s")  # payload bytes, items, CRC-32C of the payload, first bytes of the integers' SHA-256
FOOTER = struct.Struct("<I8s4s")  # trailer bytes, seal, end mark
MAX_HEADER = 2**26
MAX_CHUNK_ITEMS = 2**16

# What headers usually say: deflate refers to it instead of repeating it. Part of the format.
DICTIONARY = (
    b'{"kind":"images","names":["image_00.png","0001.png",".jpg","}]}{"codec":"autoregressive/1","space":{"kind":"image",'
    b'"shape":[3,32,32],"levels":256,"binarization":"static"},"model":"pixelcnn_pp","items":100,"batch":512,"threads":1,'
    b'"machine":{"torch":"2.13.0+cpu","isa":"AVX2","AVX512","cpu":"x86_64 GenuineIntel","AuthenticAMD","dtype":"float32"},'
    b'"dtype":"uint8","layout":{"kind":"array","name":"mnist5k-test.npy","shape":[1,28,28]}}'
)


@dataclass(frozen=True)
class Header:
    """What a file says before its first payload.

    Args:
        codec: Name and version of the codec, such as "autoregressive/1".
        space: What an item is.
        model_sha256: Hash of the model, hex.
        model: Name of the model's run, a hint for the reader.
        items: Number of items.
        batch: Items coded in lockstep.
        threads: Threads of the arithmetic.
        machine: Machine class of a float codec.
        dtype: Integer type of the original items: "uint8", "uint16", ...
        layout: What the items were: {"kind": "images", "names": [...]} or {"kind": "array", "name": ..., "shape": ...}.
        conditions: Names of the conditions that each chunk holds before its items, in the model's order.
    """

    codec: str
    space: Space
    model_sha256: str
    model: str
    items: int
    batch: int
    threads: int
    machine: dict[str, Any]
    dtype: str
    layout: dict[str, Any] = field(default_factory=dict)
    conditions: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """Preamble, header and checksum."""
        defaults = Space.image(1, 1, 1).to_json()
        space = self.space.to_json()
        fields = {
            "codec": self.codec,
            "space": {k: v for k, v in space.items() if k in ("kind", "shape", "levels") or v != defaults[k]},
            "model": self.model,
            "items": self.items,
            "batch": self.batch,
            "threads": self.threads,
            "machine": self.machine,
            "dtype": self.dtype,
            "layout": self.layout,
            **({"conditions": list(self.conditions)} if self.conditions else {}),
        }
        text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) > MAX_HEADER:
            raise CodecError(f"a header of {len(text)} bytes; at most {MAX_HEADER}. Store fewer names a file")
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=DICTIONARY)
        stored = deflate.compress(text) + deflate.flush()
        preamble = PREAMBLE.pack(MAGIC, VERSION, 0, len(stored), len(text), bytes.fromhex(self.model_sha256))
        return preamble + stored + CHECKSUM.pack(crc32c(preamble + stored))

    @staticmethod
    def from_text(text: bytes, model_sha256: str) -> Header:
        """The header that `to_bytes` wrote."""
        try:
            fields = json.loads(text)
            header = Header(
                codec=_typed(fields, "codec", str),
                space=Space.from_json(_typed(fields, "space", dict)),
                model_sha256=model_sha256,
                model=_typed(fields, "model", str),
                items=_typed(fields, "items", int),
                batch=_typed(fields, "batch", int),
                threads=_typed(fields, "threads", int),
                machine=_typed(fields, "machine", dict),
                dtype=_typed(fields, "dtype", str),
                layout=_typed(fields, "layout", dict),
                conditions=tuple(_typed(fields, "conditions", list)) if "conditions" in fields else (),
            )
            _check_conditions(header)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise _damaged(f"its header is not one of version {VERSION} ({error})") from error
        if not (header.items >= 0 and 1 <= header.batch <= MAX_CHUNK_ITEMS and 1 <= header.threads <= 1024):
            raise _damaged(f"its header has {header.items} items, batch {header.batch}, {header.threads} threads")
        return header


@dataclass(frozen=True)
class Chunk:
    """Items [start, start + items) and where their stream lies in the file."""

    start: int
    items: int
    offset: int
    length: int
    crc: int
    digest: bytes

    def check_integers(self, x: np.ndarray) -> None:
        """Raise CodecError unless x, (items, *shape), has the hash of what was encoded."""
        if chunk_digest(x) != self.digest:
            raise CodecError(
                f"items {self.start}..{self.start + self.items - 1} decode to other integers than were encoded: this "
                "machine computes other floats than the one that wrote the file. None of them was written; decode there"
            )


class Fingerprint:
    """SHA-256 of integers that arrive in parts: that of `data.dataset.Split.fingerprint`.

    Args:
        shape: Shape of all the integers together.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self._digest = hashlib.sha256(repr(tuple(map(int, shape))).encode())

    def update(self, x: np.ndarray) -> None:
        """Append integers, in order."""
        self._digest.update(np.ascontiguousarray(x, dtype="<i4").tobytes())

    def digest(self) -> bytes:
        """The hash so far."""
        return self._digest.digest()


def chunk_digest(x: np.ndarray) -> bytes:
    """First 8 bytes of the fingerprint of one chunk's integers."""
    fingerprint = Fingerprint(x.shape)
    fingerprint.update(x)
    return fingerprint.digest()[:8]


def write_container(header: Header, chunks: Iterable[tuple[np.ndarray, bytes]]) -> bytes:
    """The file of a header and (integers (n, *shape), stream) for each chunk, in order."""
    parts, entries = [header.to_bytes()], []
    fingerprint = Fingerprint((header.items, *header.space.sizes))
    for x, stream in chunks:
        fingerprint.update(x)
        entries.append(ENTRY.pack(len(stream), len(x), crc32c(stream), chunk_digest(x)))
        parts.append(stream)
    trailer = fingerprint.digest() + b"".join(entries)
    parts += [trailer, FOOTER.pack(len(trailer), _seal(parts[0], trailer), END)]
    return b"".join(parts)


class Container:
    """Header, index and hash of a file; payloads are read when asked for.

    Args:
        file: Seekable, binary; not kept.

    Raises:
        CodecError: It is no `.clen` file, of another version, truncated or damaged.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.size = file.seek(0, 2)
        self.header, start, head = self._read_header(file)
        self.data_sha256, self.chunks = self._read_trailer(file, start, head)

    @staticmethod
    def read_payload(file: BinaryIO, chunk: Chunk) -> bytes:
        """The stream of a chunk, checked."""
        stream = _read(file, chunk.offset, chunk.length)
        if crc32c(stream) != chunk.crc:
            raise _damaged(f"items {chunk.start}..{chunk.start + chunk.items - 1} fail their checksum")
        return stream

    def _read_header(self, file: BinaryIO) -> tuple[Header, int, bytes]:
        preamble = _read(file, 0, min(PREAMBLE.size, self.size))
        if preamble[: len(MAGIC)] != MAGIC[: len(preamble)] or not preamble:
            raise CodecError("no .clen file: it does not start with the mark of one. Give a file that `compress` wrote")
        if len(preamble) < PREAMBLE.size:
            raise _damaged("it ends within its first bytes")
        _, version, flags, stored_bytes, text_bytes, model = PREAMBLE.unpack(preamble)
        if version != VERSION or flags:
            raise CodecError(
                f"format version {version} with flags {flags}; this codelength reads version {VERSION} with flags 0. "
                "Upgrade codelength"
            )
        end = PREAMBLE.size + stored_bytes + CHECKSUM.size
        if end > self.size or text_bytes > min(MAX_HEADER, 1100 * (stored_bytes + 1)):
            raise _damaged(f"its header claims {stored_bytes} and {text_bytes} bytes in a file of {self.size}")
        head = preamble + _read(file, PREAMBLE.size, stored_bytes)
        if CHECKSUM.unpack(_read(file, end - CHECKSUM.size, CHECKSUM.size))[0] != crc32c(head):
            raise _damaged("its header fails its checksum")
        text = _inflate(head[PREAMBLE.size :], text_bytes)
        return Header.from_text(text, model.hex()), end, _read(file, 0, end)

    def _read_trailer(self, file: BinaryIO, start: int, head: bytes) -> tuple[str, list[Chunk]]:
        if self.size < start + 32 + FOOTER.size:
            raise _damaged("it ends before its index: it is truncated")
        length, seal, end = FOOTER.unpack(_read(file, self.size - FOOTER.size, FOOTER.size))
        offset = self.size - FOOTER.size - length
        if end != END or offset < start or length < 32 or (length - 32) % ENTRY.size:
            raise _damaged("its index is not where it should be: it is truncated or has bytes too many")
        trailer = _read(file, offset, length)
        if _seal(head, trailer) != seal:
            raise _damaged("its header and index do not belong together")
        chunks, first = [], 0
        for payload, items, crc, digest in ENTRY.iter_unpack(trailer[32:]):
            if not 1 <= items <= MAX_CHUNK_ITEMS:
                raise _damaged(f"a chunk claims {items} items")
            chunks.append(Chunk(first, items, start, payload, crc, digest))
            first, start = first + items, start + payload
        if start != offset or first != self.header.items:
            raise _damaged(
                f"its index speaks of {first} items up to byte {start}; wanted {self.header.items}, {offset}"
            )
        return trailer[:32].hex(), chunks


def _read(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    content = file.read(length)
    if len(content) != length:
        raise _damaged(f"it ends at byte {offset + len(content)} of {offset + length}")
    return content


def _inflate(stored: bytes, length: int) -> bytes:
    """Inflate to exactly `length` bytes and no more."""
    inflate = zlib.decompressobj(-15, zdict=DICTIONARY)
    try:
        text = inflate.decompress(stored, length + 1)
    except zlib.error as error:
        raise _damaged(f"its header cannot be inflated ({error})") from error
    if len(text) != length or not inflate.eof or inflate.unused_data:
        raise _damaged(f"its header inflates to other than {length} bytes")
    return text


def _seal(head: bytes, trailer: bytes) -> bytes:
    return hashlib.sha256(head + trailer).digest()[:8]


def _typed(fields: dict[str, Any], name: str, kind: type) -> Any:
    value = fields[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{name} is a {type(value).__name__}, wanted {kind.__name__}")
    return value


def _check_conditions(header: Header) -> None:
    """Raise ValueError unless the conditions are named in the space, with numbers of classes that can be."""
    known = header.space.conditions if isinstance(header.space.conditions, dict) else {}
    for name in header.conditions:
        classes = known.get(name) if isinstance(name, str) and name.isidentifier() else None
        if not (isinstance(classes, int) and 1 <= classes <= MAX_CLASSES):
            raise ValueError(f"condition {name!r} has {classes} classes")


def _damaged(what: str) -> CodecError:
    return CodecError(f"the file is damaged: {what}. Restore it from a copy")
