"""A test set as one file by an integer model: its bytes, beside −log2 P, the float model and established codecs; prints JSON.

    python benchmarks/coded_test_set.py QUANTIZED_RUN [--float FLOAT_RUN] [--items 10000] [--no-decode] [--classical benchmarks/results/codecs_cifar10.json]

The first --items data of the test split (all of them by default) are coded in chunks of 512, the file is decoded again and compared. `coded_over_model` is the
file's bits over the quantized model's own −log2 P; `cost` is the difference of the two models' bits/dim on the same data with its standard error.
The sheet is 1,600 of the images in one image, 40 by 40, by JPEG XL at effort 9. --classical is a record of `benchmarks/codecs.py`, of all test images.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import torch

from codelength.bench.measure import cpu_seconds
from codelength.coding.codec import Archive, compress, load_coder
from codelength.data import load_data
from codelength.run import load_run
from codelength.units import bits

SHEET = 40


def code_lengths(run: str, x: torch.Tensor) -> np.ndarray:
    """−log2 P of each datum, float64 (N,)."""
    model: Any = load_run(run).load_model()
    with torch.inference_mode():
        parts = [bits(-model.log_prob(part)) for part in x.split(16)]
    return torch.cat(parts).double().numpy()


def sheet_bits_per_dim(x: np.ndarray) -> float:
    """JPEG XL of SHEET x SHEET images in one."""
    images = x[: SHEET * SHEET].reshape(SHEET, SHEET, *x.shape[1:])
    sheet = np.ascontiguousarray(images.transpose(0, 3, 1, 4, 2).reshape(SHEET * x.shape[2], -1, x.shape[1]))
    return 8 * len(imagecodecs.jpegxl_encode(sheet, lossless=True, effort=9, numthreads=1)) / sheet.size


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--float", dest="unquantized")
    parser.add_argument("--items", type=int)
    parser.add_argument("--decode", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--classical", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    run = load_run(given.run)
    model, sha256 = load_coder(run)
    test = load_data(run.recipe.data.name, **run.recipe.data.options).split("test")
    items = len(test) if given.items is None else given.items
    x = test.batch(slice(0, items))
    pixels = x.numpy().astype(np.uint8)
    cpu = cpu_seconds()
    content = compress(model, pixels, model_sha256=sha256, name=run.name, workers=given.workers)
    record: dict[str, Any] = {
        "run": run.name,
        "model_sha256": sha256,
        "items": len(x),
        "bytes": len(content),
        "bits_per_dim": 8 * len(content) / x.numel(),
        "encode_cpu_seconds": round(cpu_seconds() - cpu, 1),
    }
    if given.decode:
        cpu = cpu_seconds()
        decoded = Archive(content).decode(model, model_sha256=sha256, workers=given.workers)
        record |= {
            "decodes": bool(np.array_equal(decoded, pixels)),
            "decode_cpu_seconds": round(cpu_seconds() - cpu, 1),
        }
    lengths = code_lengths(given.run, x)
    record["coded_over_model"] = 8 * len(content) / lengths.sum() - 1
    if given.unquantized:
        difference = (lengths - code_lengths(given.unquantized, x)) / x[0].numel()
        record["cost"] = {
            "bits_per_dim": difference.mean(),
            "standard_error": difference.std(ddof=1) / len(difference) ** 0.5,
        }
    if len(x) >= SHEET * SHEET:
        record["jpeg_xl_sheet_bits_per_dim"] = sheet_bits_per_dim(pixels)
    if given.classical:
        codecs = {row["name"]: row["bits_per_dim"] for row in json.loads(given.classical.read_text())["codecs"]}
        record["classical_single_files"] = {
            name: value for name, value in codecs.items() if "WebP" in name or "JPEG XL" in name
        }
        record["under_the_smallest"] = 1 - record["bits_per_dim"] / min(record["classical_single_files"].values())
    text = json.dumps(record, indent=1)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
