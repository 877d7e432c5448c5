"""Archives of whole data sets, decoded again and compared: sizes beside PNG; prints JSON, one line a set.

    python benchmarks/round_trips.py [--images FOLDER ...] [--arrays FILE.npy|FILE.npy.xz ...] [--sets NAME:SPLIT ...] [--made] [--fast] [--workers 2] [--json FILE]

--images packs the PNG files of a folder (Kodak, screenshots); --arrays an array of images, as .npy or, with four channels, as PNG files;
--sets the items of a data set as an array; --made noise, constants, checkerboards, 1 x 1 and 1 x N images, empty files and files of one byte. Each
archive is written, opened anew and restored: bytes are compared with bytes, pixels with pixels. FILE collects the lines.
"""

from __future__ import annotations

import argparse
import io
import json
import lzma
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from codelength.archive.describe import describe
from codelength.archive.pack import pack
from codelength.archive.reading import read_pixels
from codelength.archive.unpack import unpack
from codelength.bench.measure import cpu_seconds
from codelength.data import load_data


def write_png(path: Path, image: np.ndarray) -> None:
    """An image, (H, W) or (H, W, C)."""
    path.write_bytes(png(image))


def png(image: np.ndarray) -> bytes:
    """An image as a PNG file, (H, W) or (H, W, C)."""
    buffer = io.BytesIO()
    if image.dtype == np.int16:
        image = (image.astype(np.int32) + 2**15).astype(np.uint16)
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def write_array(folder: Path, x: np.ndarray) -> None:
    """An array as .npy; images with alpha, (N, H, W, 4), as PNG files."""
    if x.ndim == 4 and x.shape[3] == 4:
        for index, image in enumerate(x):
            write_png(folder / f"{index:05d}.png", image)
    else:
        np.save(folder / "x.npy", x)


def write_made(folder: Path) -> None:
    """What has little or nothing to predict, and the smallest files."""
    rng = np.random.default_rng(0)
    images = {
        "noise_rgb": rng.integers(0, 256, (256, 256, 3), dtype=np.uint8),
        "noise_16": rng.integers(0, 2**16, (64, 64), dtype=np.uint16),
        "constant_rgb": np.full((200, 300, 3), 7, np.uint8),
        "constant_grey": np.full((999, 77), 255, np.uint8),
        "checks_1": (np.indices((128, 128)).sum(0) % 2 * 255).astype(np.uint8),
        "checks_8": (np.indices((128, 128)) // 8 % 2).sum(0).astype(np.uint8) % 2 * 255,
        "one_rgb": np.array([[[1, 2, 3]]], np.uint8),
        "one_grey": np.array([[9]], np.uint8),
        "one_rgba": np.array([[[1, 2, 3, 4]]], np.uint8),
        "row": rng.integers(0, 256, (1, 1000, 3), dtype=np.uint8),
        "column": rng.integers(0, 256, (1000, 1, 3), dtype=np.uint8),
    }
    for name, image in images.items():
        write_png(folder / f"{name}.png", image)
    (folder / "empty").write_bytes(b"")
    (folder / "zero_byte").write_bytes(b"\0")
    (folder / "one_byte").write_bytes(b"x")


def read_array(path: Path) -> np.ndarray:
    """A .npy file, compressed or not."""
    content = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    x: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
    return x


def same(before: Path, after: Path) -> bool:
    """Whether a file came back: bytes, or pixels of an image."""
    return before.read_bytes() == after.read_bytes() or (
        before.suffix == ".png" and np.array_equal(read_pixels(before), read_pixels(after))
    )


def png_bytes(folder: Path) -> int:
    """Bytes of the folder's files as they are; arrays of images as PNG files of their images."""
    total = 0
    for path in folder.iterdir():
        if path.suffix != ".npy":
            total += path.stat().st_size
            continue
        x = np.load(path)
        images = x if x.ndim == 4 or (x.ndim == 3 and x.shape[2] not in (3, 4)) else [x]
        total += sum(len(png(image)) for image in images)
    return total


def round_trip(name: str, folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Pack a folder without verification, restore it, compare."""
    with tempfile.TemporaryDirectory() as scratch:
        file, out = Path(scratch) / "x.clen", Path(scratch) / "out"
        wall, cpu = time.perf_counter(), cpu_seconds()
        pack([folder], file, verify=False, **options)
        packed = time.perf_counter() - wall, cpu_seconds() - cpu
        wall, cpu = time.perf_counter(), cpu_seconds()
        unpack(file, out, workers=options["workers"])
        unpacked = time.perf_counter() - wall, cpu_seconds() - cpu
        files = sorted(path for path in folder.iterdir())
        exact = all(same(path, out / folder.resolve().name / path.name) for path in files)
        record = describe(file)
    keys = ("items", "bytes", "payload_bytes", "bits_per_number")
    return {
        "set": name,
        "files": len(files),
        "exact": exact,
        **{key: record[key] for key in keys},
        "models": [model["name"] for model in record["models"]],
        "png_bytes": png_bytes(folder),
        "encode_seconds": {"wall": round(packed[0], 2), "cpu": round(packed[1], 2)},
        "decode_seconds": {"wall": round(unpacked[0], 2), "cpu": round(unpacked[1], 2)},
    }


def folders(given: argparse.Namespace, scratch: Path) -> Iterator[tuple[str, Path]]:
    """Name and folder of each set that is asked for."""
    for folder in given.images or []:
        kept = scratch / folder.name
        kept.mkdir()
        for path in sorted(folder.glob("*.png")):
            (kept / path.name).write_bytes(path.read_bytes())
        yield folder.name, kept
    for path in given.arrays or []:
        folder = scratch / path.name.partition(".")[0]
        folder.mkdir()
        write_array(folder, read_array(path))
        yield f"{path.parent.name}/{path.name}", folder
    for name in given.sets or []:
        data, _, split = name.partition(":")
        folder = scratch / name.replace(":", "-")
        folder.mkdir()
        x = load_data(data).split(split or "test")
        items = x.batch(slice(0, len(x))).numpy()
        items = items.astype(np.uint8 if items.max() < 256 else np.uint16)
        write_array(folder, items.transpose(0, 2, 3, 1) if items.shape[1] == 3 else items[:, 0])
        yield name, folder
    if given.made:
        folder = scratch / "made"
        folder.mkdir()
        write_made(folder)
        yield "made", folder


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, nargs="*")
    parser.add_argument("--arrays", type=Path, nargs="*")
    parser.add_argument("--sets", nargs="*")
    parser.add_argument("--made", action="store_true")
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    options = {"fast": given.fast, "workers": given.workers}
    with tempfile.TemporaryDirectory() as scratch:
        for name, folder in folders(given, Path(scratch)):
            record = json.dumps({**round_trip(name, folder, options), "fast": given.fast})
            print(record, flush=True)
            if given.json:
                with given.json.open("a") as file:
                    file.write(record + "\n")


if __name__ == "__main__":
    main()
