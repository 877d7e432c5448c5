"""From paths to integers and back: what `compress` reads and `decompress` writes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from codelength.coding.codec import DTYPES, Archive
from codelength.coding.layout import Layout, array_layout
from codelength.coding.sequence_codec import pack
from codelength.errors import CodecError, DataError, SpaceMismatchError, UsageError
from codelength.models.base import LikelihoodModel
from codelength.run import write_atomically
from codelength.space import Space

DATA_PREFIX = "data:"


@dataclass(frozen=True)
class Items:
    """What is to be compressed: integers (N, C, H, W), what they were, and the conditions that came with them, (N,) each."""

    x: np.ndarray
    layout: Layout
    conditions: dict[str, np.ndarray] = field(default_factory=dict)


def read_items(paths: Sequence[str], space: Space) -> Items:
    """Read what the paths name: image files and folders of them, one .npy file, or one `data:NAME:SPLIT`.

    For a model of bytes: any files, whose bytes follow each other, or the text of one `data:NAME:SPLIT`. For a model of 16-bit audio: plain WAV files.

    Args:
        paths: One or more image files or folders, or a single array or data set.
        space: The model's space; all items must fit it.

    Raises:
        DataError: Something cannot be read.
        SpaceMismatchError: An item has other dimensions or values than the model.
        UsageError: A path is of another form, or arrays and images are mixed.
    """
    if space.kind == "sequence" and space.channels == ("byte",):
        return _read_bytes(paths, space)
    if space.kind == "audio" and space.levels == 65_536 and not paths[0].startswith(DATA_PREFIX):
        return _read_wavs(paths, space)
    single = [path for path in paths if path.startswith(DATA_PREFIX) or path.lower().endswith(".npy")]
    if single and len(paths) > 1:
        raise UsageError(f"{single[0]} beside {len(paths) - 1} other paths; a file holds one array or many images")
    if not single:
        return _read_images(paths, space)
    items = _read_data(single[0]) if single[0].startswith(DATA_PREFIX) else _read_array(Path(single[0]), space)
    _check_space(single[0], items.x, space)
    return items


def _read_bytes(paths: Sequence[str], space: Space) -> Items:
    contents: dict[str, bytes] = {}
    for path in paths:
        if path.startswith(DATA_PREFIX):
            from codelength.data import load_data

            data, split = _data_and_split(path)
            texts = load_data(data).texts
            if split not in texts:
                raise UsageError(f"{path!r} is no text; the model speaks of bytes")
            contents[f"{Path(data).name}-{split}.txt"] = texts[split].content
        else:
            contents |= _contents(path)
    tokens = np.frombuffer(b"".join(contents.values()), dtype=np.uint8)
    layout = Layout("files", tuple(contents), sizes=tuple(len(content) for content in contents.values()))
    return Items(pack(tokens, space.num_dims), layout)


def _contents(path: str) -> dict[str, bytes]:
    """Name and bytes of a file, or of the files of a folder."""
    if Path(path).is_dir():
        found = sorted(file for file in Path(path).rglob("*") if file.is_file())
        return {file.relative_to(Path(path).parent).as_posix(): file.read_bytes() for file in found}
    if not Path(path).is_file():
        raise DataError(f"{path} does not exist; give files or folders")
    return {Path(path).name: Path(path).read_bytes()}


def _read_wavs(paths: Sequence[str], space: Space) -> Items:
    from codelength.data.audio import read_wav

    recordings = {name: read_wav(content, name) for path in paths for name, content in _contents(path).items()}
    rates = {rate for _, rate in recordings.values()}
    if len(rates) != 1:
        raise DataError(f"recordings of {len(rates)} sample rates ({sorted(rates)}); compress each kind apart")
    samples = [samples for samples, _ in recordings.values()]
    layout = Layout("wav", tuple(recordings), sizes=tuple(map(len, samples)), rate=rates.pop())
    return Items(pack(np.concatenate(samples), space.num_dims, space.offset)[:, None], layout)


def _data_and_split(path: str) -> tuple[str, str]:
    name, _, split = path.removeprefix(DATA_PREFIX).rpartition(":")
    if not name:
        raise UsageError(f"{path!r}; wanted data:NAME:SPLIT, such as data:mnist5k:test")
    return name, split


def _read_data(path: str) -> Items:
    from codelength.data import load_data

    name, split = _data_and_split(path)
    chosen = load_data(name).split(split)
    return Items(chosen.x, Layout("array", (f"{Path(name).name}-{split}.npy",)), chosen.conditions)


def read_conditions(pairs: Sequence[str], count: int) -> dict[str, np.ndarray]:
    """Conditions as the command line gives them: `label=3` for all items, or `label=FILE.npy` with one integer an item.

    Raises:
        UsageError: A pair is of another form.
        DataError: A file cannot be read.
    """
    conditions = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if value.lower().endswith(".npy"):
            try:
                conditions[name] = np.load(value, allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise DataError(
                    f"{value} cannot be read as an array ({error}); give a .npy file of integers"
                ) from error
        elif name and value.isdigit():
            conditions[name] = np.full(count, int(value))
        else:
            raise UsageError(f"--condition {pair!r}; wanted label=3, or label=FILE.npy with one integer an item")
    return conditions


def condition_file(path: Path, name: str) -> Path:
    """Where the condition `name` of the array at `path` goes: `x.label.npy` beside `x.npy`."""
    return path.with_name(f"{path.stem}.{name}.npy")


def _read_array(path: Path, space: Space) -> Items:
    try:
        x = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as an array ({error}); give a .npy file of integers") from error
    if x.dtype.name not in DTYPES or x.ndim < 2:
        raise DataError(
            f"{path} holds {x.dtype} of shape {x.shape}; wanted integers (N, C, H, W), (N, H, W, C) or (N, H, W)"
        )
    layout = array_layout(path.name, x, space)
    return Items(layout.to_nchw(x), layout)


def _read_images(paths: Sequence[str], space: Space) -> Items:
    from codelength.data.images import load_images

    images = load_images(paths)
    for name, pixels in images:
        if pixels.dtype != np.uint8 and space.levels <= 256:
            raise SpaceMismatchError(
                f"{name} has {8 * pixels.itemsize} bits a value but the model has {space.levels} levels; convert it to "
                "8 bits or train a model with more levels"
            )
        if pixels.dtype != images[0][1].dtype:
            raise DataError(
                f"{name} has {pixels.dtype} values but {images[0][0]} {images[0][1].dtype}; compress them apart"
            )
        _check_space(name, pixels[None], space)
    return Items(np.stack([pixels for _, pixels in images]), Layout("images", tuple(name for name, _ in images)))


def _check_space(name: str, x: np.ndarray, space: Space) -> None:
    try:
        space.validate(torch.from_numpy(x.astype(np.int64)))
    except SpaceMismatchError as error:
        raise SpaceMismatchError(f"{name}: {error}") from error


def write_items(
    archive: Archive,
    model: LikelihoodModel,
    model_sha256: str,
    folder: Path,
    items: slice = slice(None),
    *,
    overwrite: bool = False,
    workers: int | None = None,
) -> list[Path]:
    """Decode items into files of `folder`: images as PNG, an array as .npy. Every file is whole or absent.

    Conditions that the file holds come back too: `x.label.npy` beside `x.npy`, and `items.label.npy` with images.

    Args:
        archive: The compressed file.
        model: The model it was coded with.
        model_sha256: Its hash.
        folder: Where to write; made if it is missing.
        items: Which items.
        overwrite: Replace files that exist.
        workers: Chunks decoded at once; see `Archive.chunks`.

    Returns:
        The files written, in the items' order.

    Raises:
        CodecError: The file cannot be decoded here, a name is unsafe, or a file exists already.
    """
    archive.require_model(model, model_sha256)
    layout = Layout.from_json(archive.header.layout, archive.header.items)
    targets = layout.targets(folder)
    joined = layout.kind in ("files", "wav")
    if joined and items.indices(archive.header.items) != (0, archive.header.items, 1):
        raise UsageError("--items: the file holds the bytes of files, which come back together; leave it out")
    wanted = targets[items] if layout.kind == "images" else targets
    beside = targets[0] if layout.kind == "array" else folder / "items.npy"
    told = {condition_file(beside, name): values for name, values in archive.conditions(items).items()}
    wanted = [*wanted, *told]
    taken = [path for path in wanted if path.exists()]
    if taken and not overwrite:
        raise CodecError(f"{taken[0]} exists; choose another folder or give --overwrite")
    folder.mkdir(parents=True, exist_ok=True)
    if layout.kind == "array":
        x = archive.decode(model, items, model_sha256=model_sha256, workers=workers)
        write_atomically(targets[0], npy_bytes(layout.from_nchw(x)))
    elif joined:
        from codelength.data.audio import wav_header

        values, start = archive.decode(model, items, model_sha256=model_sha256).reshape(-1), 0
        if values.dtype != (np.int16 if layout.kind == "wav" else np.uint8) or sum(layout.sizes) > len(values):
            raise CodecError("the file is damaged: its files have more bytes than it holds. Restore it from a copy")
        for path, size in zip(targets, layout.sizes, strict=True):
            header = wav_header(size, layout.rate) if layout.kind == "wav" else b""
            write_atomically(
                path, header + values[start : start + size].astype(values.dtype.newbyteorder("<")).tobytes()
            )
            start += size
    else:
        for start, x in archive.chunks(model, items, model_sha256=model_sha256, workers=workers):
            for path, pixels in zip(targets[start : start + len(x)], x, strict=True):
                write_atomically(path, png_bytes(pixels))
    for path, values in told.items():
        write_atomically(path, npy_bytes(values))
    return wanted


def npy_bytes(x: np.ndarray) -> bytes:
    """An array as the content of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, x, allow_pickle=False)
    return buffer.getvalue()


def png_bytes(pixels: np.ndarray) -> bytes:
    """(C, H, W) integers of 8 or 16 bits as a PNG file.

    Raises:
        CodecError: PNG cannot hold them.
    """
    import imagecodecs

    if pixels.dtype not in (np.uint8, np.uint16) or len(pixels) not in (1, 2, 3, 4):
        raise CodecError(f"PNG holds no {pixels.dtype} of {len(pixels)} channels; the file is damaged, restore a copy")
    image = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    # A copy: contiguous views with axes of length 1 can have strides that the encoder refuses. Its own guess of the size is too small for narrow
    # columns: a row has a byte of its own, and deflate stores what it cannot compress.
    room = image.nbytes + image.nbytes // 8 + 8 * image.shape[0] + 2**12
    return bytes(imagecodecs.png_encode(image.copy(order="C"), out=room))
