"""Rates, ratios and a profile of coding CIFAR-10 test images; prints JSON.

    python benchmarks/codec_rates.py [--run QUANTIZED_RUN] [--images 1024] [--chunk 512] [--workers 2] [--json FILE]

Without --run the shipped model `fast` codes an array of the images into an archive; with it the run's model codes them chunk by chunk. Nothing is
verified inside the timed parts; afterwards the decoded images are compared. Times are wall-clock and CPU seconds of all workers; MB are 10^6 bytes of
pixels. On a machine with other work the wall-clock rates are lower bounds, and `workers` times the rate a CPU-second is what free cores give.
JPEG XL (effort 9) and WebP (method 6) code the same images in the same run, a file each, on one thread. The profile is that of one worker: CPU time
inside each part of the codec, as a share of the whole.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import torch

from codelength.archive.models import SHIPPED, open_model
from codelength.archive.pack import pack
from codelength.archive.unpack import OpenArchive
from codelength.bench.measure import cpu_seconds
from codelength.coding.bits import BitReader, BitWriter
from codelength.coding.codec import Archive, compress, load_coder
from codelength.data import load_data
from codelength.integer import IntegerLinear, Lookup
from codelength.integer.mixture import IntegerMixture, LogisticTables
from codelength.models.quantized.causal_window import WindowInputs
from codelength.models.quantized.parts import MixtureGrid, SumsTable
from codelength.run import load_run

# Part of the profile: (class, method) pairs; the time of an inner part counts for the inner one.
PARTS: dict[str, list[tuple[Any, str]]] = {
    "matrix products": [(IntegerLinear, "forward")],
    "window inputs": [(WindowInputs, "forward")],
    "activation tables": [(SumsTable, "forward")],
    "mixture parameters": [(MixtureGrid, "forward"), (Lookup, "forward")],
    "cumulative counts": [(IntegerMixture, "between"), (IntegerMixture, "below"), (LogisticTables, "sigmoids")],
    "entropy coder": [(BitWriter, "code"), (BitReader, "code")],
}


@contextmanager
def profiled(seconds: dict[str, float]) -> Iterator[None]:
    """Adds to `seconds` the CPU time of this thread inside each part."""
    inside: list[str] = []
    last = [0.0]

    def switch() -> None:
        now = time.thread_time()
        name = inside[-1] if inside else "the rest"
        seconds[name] = seconds.get(name, 0.0) + now - last[0]
        last[0] = now

    def timed(function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            switch()
            inside.append(part)
            try:
                return function(*args, **options)
            finally:
                switch()
                inside.pop()

        return call

    kept = [(owner, name, getattr(owner, name)) for pairs in PARTS.values() for owner, name in pairs]
    for part, pairs in PARTS.items():
        for owner, name in pairs:
            setattr(owner, name, timed(getattr(owner, name), part))
    last[0] = time.thread_time()
    try:
        yield
    finally:
        switch()
        for owner, name, function in kept:
            setattr(owner, name, function)


def shares(function: Callable[[], Any]) -> dict[str, float]:
    """Part -> its share of the CPU time."""
    seconds: dict[str, float] = {}
    with profiled(seconds):
        function()
    total = sum(seconds.values())
    return {name: round(part / total, 3) for name, part in sorted(seconds.items(), key=lambda item: -item[1])}


def timed(function: Callable[[], Any], megabytes: float) -> tuple[Any, dict[str, float]]:
    """Result and rates."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    result = function()
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    rates = {"wall_seconds": wall, "cpu_seconds": cpu, "MB_per_s": megabytes / wall, "MB_per_cpu_s": megabytes / cpu}
    return result, {name: round(value, 4) for name, value in rates.items()}


def run_codec(path: str, chunk: int) -> tuple[Callable[..., Any], Callable[..., Any], str]:
    """Encode (x, workers) -> bytes and decode (bytes, workers) -> x by a run's model, and its name."""
    model, sha256 = load_coder(load_run(path))

    def encode(x: np.ndarray, workers: int) -> bytes:
        return compress(model, x, model_sha256=sha256, chunk=chunk, workers=workers)

    def decode(content: bytes, workers: int) -> np.ndarray:
        return Archive(content).decode(model, model_sha256=sha256, workers=workers)

    return encode, decode, Path(path).name


def archive_codec() -> tuple[Callable[..., Any], Callable[..., Any], str]:
    """The same by an archive and the shipped model `fast`."""
    open_model(SHIPPED / "fast")
    scratch = tempfile.TemporaryDirectory()
    folder = Path(scratch.name)

    def encode(x: np.ndarray, workers: int) -> bytes:
        np.save(folder / "x.npy", x.transpose(0, 2, 3, 1))
        pack([folder / "x.npy"], folder / "x.clen", fast=True, verify=False, workers=workers)
        return (folder / "x.clen").read_bytes()

    def decode(content: bytes, workers: int, keep: TemporaryFolder = scratch) -> np.ndarray:
        (folder / "y.clen").write_bytes(content)
        (folder / "y.npy").write_bytes(OpenArchive(folder / "y.clen", workers=workers).restored(0))
        return np.load(folder / "y.npy").transpose(0, 3, 1, 2)

    return encode, decode, "shipped fast, in an archive"


TemporaryFolder = tempfile.TemporaryDirectory[str]


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run")
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--profiled", type=int, default=256)
    parser.add_argument("--chunk", type=int, default=512)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    x = load_data("cifar10").split("test").batch(slice(0, given.images)).numpy().astype(np.uint8)
    encode, decode, name = run_codec(given.run, given.chunk) if given.run else archive_codec()
    decode(encode(x[:2], 1), 1)  # self-tests and tables
    megabytes = x.nbytes / 1e6
    content, encoding = timed(lambda: encode(x, given.workers), megabytes)
    decoded, decoding = timed(lambda: decode(content, given.workers), megabytes)
    part = x[: given.profiled]
    stream = encode(part, 1)
    images = x.transpose(0, 2, 3, 1).copy()
    others = {
        "JPEG XL, effort 9": lambda image: imagecodecs.jpegxl_encode(image, lossless=True, effort=9, numthreads=1),
        "WebP, method 6": lambda image: imagecodecs.webp_encode(image, lossless=True, method=6),
    }
    classical = {}
    for title, coder in others.items():
        total, rates = timed(lambda coder=coder: sum(len(coder(image)) for image in images), megabytes)
        classical[title] = {"bits_per_dim": round(8 * total / x.size, 4), **rates}
    record = {
        "model": name,
        "images": len(x),
        "workers": given.workers,
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "decodes": bool(np.array_equal(decoded, x)),
        "bits_per_dim": round(8 * len(content) / x.size, 4),
        "encode": encoding,
        "decode": decoding,
        **classical,
        "ratios": {
            title: {
                "size": round(8 * len(content) / x.size / row["bits_per_dim"], 4),
                "encoding_cpu_seconds": round(encoding["cpu_seconds"] / row["cpu_seconds"], 3),
            }
            for title, row in classical.items()
        },
        "profile": {
            "encode": shares(lambda: encode(part, 1)),
            "decode": shares(lambda: decode(stream, 1)),
        },
    }
    text = json.dumps(record, indent=1)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
