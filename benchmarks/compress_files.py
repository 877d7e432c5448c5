"""What archives reach: sizes beside PNG, WebP and JPEG XL, and round trips of sets of images, on subsets.

    python benchmarks/compress_files.py --kodak FOLDER [--images 8]         bits per sub-pixel of whole images, shipped model
    python benchmarks/compress_files.py --sets [--items 40]                 round trips through archives, verified

Prints JSON; `--json FILE` writes it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import torch

from codelength.archive.describe import describe
from codelength.archive.models import SHIPPED, models_for
from codelength.archive.pack import pack
from codelength.archive.reading import read_pixels
from codelength.archive.window_codec import decode_window, encode_window
from codelength.bench.measure import cpu_seconds


def classical(pixels: np.ndarray) -> dict[str, int]:
    """Bytes of single files of (C, H, W) 8-bit pixels."""
    image = pixels.transpose(1, 2, 0).copy(order="C")
    return {
        "png": len(imagecodecs.png_encode(image, level=9)),
        "webp": len(imagecodecs.webp_encode(image, lossless=True)),
        "jxl": len(imagecodecs.jpegxl_encode(image, lossless=True, effort=7)),
    }


def kodak(folder: Path, images: int, workers: int) -> dict[str, Any]:
    """Bits per sub-pixel of evenly spaced images by the shipped models; the first 64 rows of each are decoded again."""
    known = [model for model in models_for(3, 256) if model.path.parent == SHIPPED]
    files = sorted(folder.glob("*.png"))
    files = files[:: max(1, len(files) // images)][:images]
    totals: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    dims = 0
    for path in files:
        pixels = read_pixels(path)
        for model in known:
            start = cpu_seconds()
            totals[model.name] += len(encode_window(model.model, pixels[None], workers))
            seconds[model.name] += cpu_seconds() - start
            top = pixels[None, :, :64, :64]
            assert np.array_equal(decode_window(model.model, encode_window(model.model, top), top.shape), top)
        totals.update(classical(pixels))
        dims += pixels.size
        print(
            path.name, {name: round(8 * total / dims, 4) for name, total in totals.items()}, file=sys.stderr, flush=True
        )
    return {
        "set": "kodak",
        "images": [path.name for path in files],
        "model_sha256": {model.name: model.sha256 for model in known},
        "bits_per_sub_pixel": {name: round(8 * total / dims, 4) for name, total in totals.items()},
        "encode_cpu_mb_per_second": {name: round(dims / spent / 1e6, 4) for name, spent in seconds.items()},
    }


def sets(items: int) -> list[dict[str, Any]]:
    """Archives of the first items of each set's test split as PNG files, decoded again by `pack`."""
    from codelength.data import load_data

    out = []
    for name in ("mnist5k", "digits", "photos32"):
        x = load_data(name).split("test").x[:items]
        out.append(round_trip(name, [image.astype(np.uint8) for image in x]))
    rng = np.random.default_rng(0)
    out.append(round_trip("noise", [rng.integers(0, 256, (3, 32, 32), dtype=np.uint8)]))
    out.append(round_trip("constant", [np.full((3, 64, 64), 5, np.uint8)]))
    out.append(round_trip("checkerboard", [(np.indices((64, 64)).sum(0)[None] % 2 * 255).astype(np.uint8)]))
    out.append(round_trip("1x1 and 1xN", [np.full((3, 1, 1), 7, np.uint8), np.arange(99, dtype=np.uint8)[None, None]]))
    return out


def round_trip(name: str, images: list[np.ndarray]) -> dict[str, Any]:
    """Pack and verify images as PNG files."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "in"
        folder.mkdir()
        for index, image in enumerate(images):
            pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
            (folder / f"{index:04d}.png").write_bytes(imagecodecs.png_encode(pixels.copy(order="C")))
        pack([folder], Path(scratch) / "x.clen")
        record = describe(Path(scratch) / "x.clen")
        png = sum(path.stat().st_size for path in folder.iterdir())
    keys = ("items", "bytes", "payload_bytes", "bits_per_number")
    return {"set": name, "verified": True, "png_bytes": png, **{key: record[key] for key in keys}}


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kodak", type=Path)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sets", action="store_true")
    parser.add_argument("--items", type=int, default=40)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if not (given.kodak or given.sets):
        print("nothing to do: give --kodak FOLDER or --sets")
        return
    torch.set_num_threads(1)
    record = {
        **({"kodak": kodak(given.kodak, given.images, given.workers)} if given.kodak else {}),
        **({"sets": sets(given.items)} if given.sets else {}),
    }
    text = json.dumps(record, indent=1)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
