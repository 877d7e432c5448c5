"""Where large data come from: .npy files, Parquet, tar shards, image files, Hugging Face datasets; local or behind fsspec.

Every source tells how many data each of its chunks holds, and reads a chunk. Addresses are what fsspec understands: paths,
s3://, gs://, https:// and others whose drivers are installed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from codelength.data.images import IMAGE_SUFFIXES, decode_image
from codelength.errors import DataError, UsageError

CHUNK_BYTES = 2**23
"""Bytes of a chunk where the source has none of its own."""
CHUNK_IMAGES = 512
"""Encoded images of a chunk."""
SHAPE_KEY = b"codelength"
"""Key of a Parquet file's metadata: {"shape": [C, H, W], "dtype": "uint8"}."""


def open_address(address: str) -> tuple[Any, str]:
    """The file system of an address and the path on it.

    Raises:
        UsageError: No driver is installed for it.
    """
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise UsageError(f"{address}: {' '.join(str(error).split())}; install the driver that fsspec names") from error
    return filesystem, path


@dataclass
class Place:
    """A file at an address, which opens again in another process."""

    address: str

    @property
    def name(self) -> str:
        """The file's name."""
        return self.address.rstrip("/").rpartition("/")[2]

    def open(self) -> Any:
        """Open it for reading, binary.

        Raises:
            DataError: It cannot be read.
        """
        filesystem, path = open_address(self.address)
        try:
            return filesystem.open(path, "rb")
        except OSError as error:
            raise DataError(f"{self.address} cannot be read ({error}); check the address") from error


def expand(address: str) -> list[str]:
    """Addresses with ranges written out.

    >>> expand("shard-{08..10}.tar")
    ['shard-08.tar', 'shard-09.tar', 'shard-10.tar']
    """
    found = re.search(r"\{(\d+)\.\.(\d+)\}", address)
    if found is None:
        return [address]
    first, last = found.groups()
    numbers = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return [one for number in numbers for one in expand(address[: found.start()] + number + address[found.end() :])]


def find(address: str, suffixes: Sequence[str]) -> list[Place]:
    """The files of an address, sorted: a file, a pattern with * or {a..b}, or a folder with its sub-folders.

    Raises:
        DataError: There are none with these suffixes.
    """
    found: list[str] = []
    for part in expand(address):
        filesystem, path = open_address(part)
        try:
            paths = filesystem.glob(path) if any(c in path for c in "*?[") else [path]
            for one in paths:
                found += filesystem.find(one) if filesystem.isdir(one) else [one] if filesystem.exists(one) else []
        except OSError as error:
            raise DataError(f"{part} cannot be listed ({error}); check the address") from error
        protocol = filesystem.protocol if isinstance(filesystem.protocol, str) else filesystem.protocol[0]
        if protocol not in ("file", "local"):
            found = [name if "://" in name else f"{protocol}://{name}" for name in found]
    chosen = sorted({name for name in found if name.lower().endswith(tuple(suffixes)) and "/." not in name})
    if not chosen:
        raise DataError(f"{address} holds no {' or '.join(suffixes)} file; check the address")
    return [Place(name) for name in chosen]


def _alike(images: list[np.ndarray], names: Sequence[str], crop: int | None) -> np.ndarray:
    """Images that must be of one shape and type, (n, C, H, W)."""
    from codelength.data.own import centre

    images = images if crop is None else [centre(i, crop, Path(n)) for i, n in zip(images, names, strict=True)]
    for image, name in zip(images, names, strict=True):
        if image.shape != images[0].shape or image.dtype != images[0].dtype:
            raise DataError(
                f"{name} is {image.dtype} {image.shape} (C, H, W) but {names[0]} {images[0].dtype} {images[0].shape}; "
                "give crop=N to cut a square of N pixels from the centre of each, or convert them"
            )
    return np.stack(images)


def _even(count: int, size: int) -> list[int]:
    """Lengths of chunks of `size`, the last one shorter."""
    return [min(size, count - start) for start in range(0, count, size)]


@dataclass
class ArrayFiles:
    """.npy files of images, (N, H, W), (N, H, W, C) or (N, C, H, W), read in pieces and never mapped.

    Mapped pages would count as resident memory.
    """

    places: list[Place]
    layout: str | None = None
    lengths: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._pieces: list[tuple[Place, int, int, tuple[int, ...], np.dtype]] = []
        for place in self.places:
            with place.open() as file:
                try:
                    version = np.lib.format.read_magic(file)
                    reader = (
                        np.lib.format.read_array_header_1_0
                        if version == (1, 0)
                        else np.lib.format.read_array_header_2_0
                    )
                    shape, by_column, dtype = reader(file)
                except ValueError as error:
                    raise DataError(f"{place.address} is no .npy file ({error}); write it with numpy.save") from error
                offset = file.tell()
            if dtype not in (np.uint8, np.uint16) or by_column or len(shape) not in (3, 4):
                raise DataError(
                    f"{place.address} holds {dtype} of shape {shape}; wanted uint8 or uint16 (N, H, W), (N, H, W, C) or "
                    "(N, C, H, W) in C order"
                )
            row = int(np.prod(shape[1:])) * dtype.itemsize
            start = 0
            for length in _even(shape[0], max(1, CHUNK_BYTES // row)):
                self._pieces.append((place, offset + start * row, length, shape[1:], dtype))
                self.lengths.append(length)
                start += length

    def read(self, chunk: int) -> np.ndarray:
        """The images of a chunk, (n, C, H, W)."""
        from codelength.data.own import channels_first

        place, offset, length, shape, dtype = self._pieces[chunk]
        with place.open() as file:
            file.seek(offset)
            content = file.read(length * int(np.prod(shape)) * dtype.itemsize)
        try:
            values = np.frombuffer(content, dtype=dtype).reshape(length, *shape)
        except ValueError as error:
            raise DataError(f"{place.address} is cut short ({error}); restore it from a copy") from error
        return channels_first(Path(place.address), values, self.layout)  # type: ignore[arg-type]


@dataclass
class ImageFiles:
    """Image files, decoded when they are read."""

    places: list[Place]
    crop: int | None = None

    def __post_init__(self) -> None:
        self.lengths = _even(len(self.places), CHUNK_IMAGES)

    def read(self, chunk: int) -> np.ndarray:
        """The images of a chunk, (n, C, H, W)."""
        places = self.places[chunk * CHUNK_IMAGES : (chunk + 1) * CHUNK_IMAGES]
        images = []
        for place in places:
            with place.open() as file:
                images.append(decode_image(file.read(), place.address))
        return _alike(images, [place.address for place in places], self.crop)


@dataclass
class TarShards:
    """WebDataset shards: tar archives whose members of one stem are one datum; the image is what is read.

    Members are found once, by their headers; chunks are read by the members' places in the file.
    """

    places: list[Place]
    crop: int | None = None

    def __post_init__(self) -> None:
        import tarfile

        self.lengths: list[int] = []
        self._chunks: list[tuple[Place, list[tuple[str, int, int]]]] = []
        self.labels: list[int] | None = []
        for place in self.places:
            members: list[tuple[str, int, int]] = []
            labels: dict[str, int] = {}
            with place.open() as file:
                try:
                    with tarfile.open(fileobj=file, mode="r:") as tar:
                        for member in tar:
                            stem, _, suffix = member.name.rpartition(".")
                            if member.isfile() and f".{suffix.lower()}" in IMAGE_SUFFIXES:
                                members.append((member.name, member.offset_data, member.size))
                            elif member.isfile() and suffix == "cls":
                                content = tar.extractfile(member)
                                labels[stem] = int(content.read()) if content else 0
                except (tarfile.TarError, ValueError) as error:
                    raise DataError(
                        f"{place.address} is no whole tar shard ({error}); restore it from a copy"
                    ) from error
            if labels and self.labels is not None:
                self.labels += [labels[name.rpartition(".")[0]] for name, _, _ in members]
            else:
                self.labels = None
            for start in range(0, len(members), CHUNK_IMAGES):
                part = members[start : start + CHUNK_IMAGES]
                self._chunks.append((place, part))
                self.lengths.append(len(part))

    def read(self, chunk: int) -> np.ndarray:
        """The images of a chunk, (n, C, H, W)."""
        place, members = self._chunks[chunk]
        images = []
        with place.open() as file:
            for name, offset, size in members:
                file.seek(offset)
                images.append(decode_image(file.read(size), f"{place.address}:{name}"))
        return _alike(images, [f"{place.address}:{name}" for name, _, _ in members], self.crop)


@dataclass
class ParquetFiles:
    """Parquet files: a column of encoded images (as Hugging Face writes them), or of raw integers of one shape.

    Row groups are the chunks. Raw columns are binary or fixed-size lists; their shape is in the file's metadata
    (`write_parquet`) or given.
    """

    places: list[Place]
    column: str | None = None
    shape: tuple[int, ...] | None = None
    crop: int | None = None

    def __post_init__(self) -> None:
        self.lengths: list[int] = []
        self._groups: list[tuple[Place, int]] = []
        self.dtype = np.dtype(np.uint8)
        for place in self.places:
            with place.open() as file:
                opened = _parquet(file, place)
                if self.column is None:
                    self.column = _image_column(opened.schema_arrow, place)
                written = (opened.schema_arrow.metadata or {}).get(SHAPE_KEY)
                if written is not None and self.shape is None:
                    fields = json.loads(written)
                    self.shape, self.dtype = tuple(fields["shape"]), np.dtype(fields["dtype"])
                for group in range(opened.num_row_groups):
                    self._groups.append((place, group))
                    self.lengths.append(opened.metadata.row_group(group).num_rows)

    def values(self, chunk: int, column: str) -> Any:
        """A column of a chunk, an Arrow array."""
        place, group = self._groups[chunk]
        with place.open() as file:
            table = _parquet(file, place).read_row_group(group, columns=[column])
        return table.column(column).combine_chunks()

    def read(self, chunk: int) -> np.ndarray:
        """The images of a chunk, (n, C, H, W)."""
        import pyarrow as pa

        place, group = self._groups[chunk]
        values = self.values(chunk, str(self.column))
        values = values.chunk(0) if isinstance(values, pa.ChunkedArray) else values
        if self.shape is not None:
            return _raw(values, self.shape, self.dtype, place)
        if pa.types.is_struct(values.type):
            values = values.field("bytes")
        names = [f"{place.address} row group {group} row {row}" for row in range(len(values))]
        images = [decode_image(value.as_py() or b"", name) for value, name in zip(values, names, strict=True)]
        return _alike(images, names, self.crop)


def _parquet(file: Any, place: Place) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise DataError(f"{place.address} is no Parquet file ({error}); restore it from a copy") from error


def _image_column(schema: Any, place: Place) -> str:
    import pyarrow as pa

    def fits(kind: Any) -> bool:
        if pa.types.is_struct(kind):
            return "bytes" in [kind.field(i).name for i in range(kind.num_fields)]
        return any(test(kind) for test in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary,
                                           pa.types.is_fixed_size_list))  # fmt: skip

    names: list[str] = [f.name for f in schema if fits(f.type)]
    if len(names) != 1:
        raise UsageError(
            f"{place.address} has the columns {', '.join(schema.names)}, of which {len(names)} could hold images; name one "
            "by @column=NAME"
        )
    return names[0]


def _raw(values: Any, shape: tuple[int, ...], dtype: np.dtype, place: Place) -> np.ndarray:
    """Integers of an Arrow column of one size each, without a copy of each."""
    import pyarrow as pa

    if pa.types.is_fixed_size_list(values.type):
        flat = values.flatten().to_numpy(zero_copy_only=False)
    elif pa.types.is_fixed_size_binary(values.type):
        width = values.type.byte_width
        flat = np.frombuffer(values.buffers()[1], dtype=dtype)[values.offset * width // dtype.itemsize :]
    else:
        flat = np.frombuffer(b"".join(value.as_py() for value in values), dtype=dtype)
    count = len(values) * int(np.prod(shape))
    if len(flat) < count:
        raise DataError(f"{place.address} has rows of {len(flat) // max(len(values), 1)} numbers; wanted shape {shape}")
    return flat[:count].astype(dtype, copy=False).reshape(len(values), *shape)


def write_parquet(path: str | Path, parts: Any, labels: Sequence[np.ndarray] | None = None) -> None:
    """Write integers into a Parquet file that `parquet:` reads, a row group a part.

    Args:
        path: File to write.
        parts: Arrays (n, *shape), uint8 or uint16, one after another; an iterator will do.
        labels: Class of each datum, a part an array (n,).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    try:
        for index, x in enumerate(parts):
            width = int(np.prod(x.shape[1:])) * x.dtype.itemsize
            buffer = pa.py_buffer(np.ascontiguousarray(x))
            column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(x), [None, buffer])
            columns = {"x": column} if labels is None else {"x": column, "label": pa.array(labels[index])}
            meta = {SHAPE_KEY: json.dumps({"shape": list(x.shape[1:]), "dtype": x.dtype.name})}
            table = pa.table(columns).replace_schema_metadata(meta)
            if writer is None:
                # Pixels do not deflate: a codec would cost time and save nothing.
                writer = pq.ParquetWriter(path, table.schema, compression="none", use_dictionary=False)
            writer.write_table(table, row_group_size=len(x))
    finally:
        if writer is not None:
            writer.close()


@dataclass
class HubRows:
    """Rows of a Hugging Face data set, which lie memory-mapped in its Arrow files.

    Args:
        open: Opens the split, in any process.
        column: Column of images.
        crop: Side of a square from the centre.
    """

    open: Callable[[], Any]
    column: str | None = None
    crop: int | None = None

    def __post_init__(self) -> None:
        from datasets import Image

        rows = self.open()
        if self.column is None:
            names = [name for name, feature in rows.features.items() if isinstance(feature, Image)]
            if len(names) != 1:
                raise UsageError(
                    f"the columns {', '.join(rows.features)} have {len(names)} images; name one by @column=NAME"
                )
            self.column = names[0]
        self.rows = rows.cast_column(self.column, Image(decode=False))
        self.lengths = _even(len(rows), CHUNK_IMAGES)

    def read(self, chunk: int) -> np.ndarray:
        """The images of a chunk, (n, C, H, W)."""
        start = chunk * CHUNK_IMAGES
        found = self.rows[start : start + self.lengths[chunk]][self.column]
        names = [f"row {start + i}" for i in range(len(found))]
        images = []
        for item, name in zip(found, names, strict=True):
            content = item["bytes"] if item["bytes"] is not None else Path(item["path"]).read_bytes()
            images.append(decode_image(content, item["path"] or name))
        return _alike(images, names, self.crop)
