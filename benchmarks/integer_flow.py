"""Coding with integer flows: size, exactness, speed of the whole path, access to single images: JSON into results/.

    python benchmarks/integer_flow.py RUN [RUN ...] [--images 10000] [--timed 64]

RUN is a quantized run of the system idf. The test split (or its first --images) is coded, a fresh process decodes it and every byte is compared. Time is CPU time of the process on one thread, for
the first --timed images: "network" is what computes features and translations, "tables" is the rest: mixtures' parameters, counts and halvings, "coder" is the range coder. For access, a file of one image
a chunk is written, and one image in its middle is decoded alone.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codelength.coding import Archive, compress, load_coder, measure_coding
from codelength.coding.bits import BitReader, BitWriter
from codelength.coding.registry import CODECS, codec_of
from codelength.data import load_data
from codelength.data.dataset import DataSet, Split
from codelength.models.quantized import idf
from codelength.run import load_run

CHUNKS = (1, 16, 512)


class Clock:
    """CPU time by name; a timer inside another one takes its time away from it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.stack: list[str] = []
        self.last = time.process_time()

    def _turn(self) -> None:
        now = time.process_time()
        if self.stack:
            self.seconds[self.stack[-1]] = self.seconds.get(self.stack[-1], 0.0) + now - self.last
        self.last = now

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Time a block."""
        self._turn()
        self.stack.append(name)
        try:
            yield
        finally:
            self._turn()
            self.stack.pop()

    @contextmanager
    def watch(self, owner: Any, attribute: str, name: str) -> Iterator[None]:
        """Time all calls of a function."""
        original = getattr(owner, attribute)

        def timed(*args: Any, **options: Any) -> Any:
            with self.time(name):
                return original(*args, **options)

        setattr(owner, attribute, timed)
        try:
            yield
        finally:
            setattr(owner, attribute, original)


def timed_path(model: Any, x: torch.Tensor) -> dict[str, Any]:
    """Speed of both ways and where the time goes."""
    codec = CODECS[codec_of(model)]
    batch = codec.batch(model, 512)
    codec.encode(model, x[:2], batch=batch, threads=1)  # prepares the layers
    stream = b""

    def encode() -> None:
        nonlocal stream
        stream = codec.encode(model, x, batch=batch, threads=1)

    def decode() -> None:
        assert torch.equal(codec.decode(model, stream, len(x), batch=batch, threads=1), x), "decoded integers differ"

    return {"encode": timed(encode, x), "decode": timed(decode, x)}


def timed(way: Callable[[], None], x: torch.Tensor) -> dict[str, Any]:
    """CPU time of one way, by part."""
    clock = Clock()
    start = time.process_time()
    with (
        clock.watch(BitWriter, "code", "coder"),
        clock.watch(BitReader, "code", "coder"),
        clock.watch(idf.IntegerTrunk, "forward", "network"),
        clock.watch(idf.IntegerLinear, "forward", "network"),
        clock.time("tables"),
    ):
        way()
    seconds = time.process_time() - start
    return {
        "mb_per_cpu_second": x.numel() / 1e6 / seconds,
        "ms_per_image": 1000 * seconds / len(x),
        "shares": {name: value / seconds for name, value in clock.seconds.items()},
    }


def access(model: Any, items: np.ndarray) -> dict[str, Any]:
    """Files of some chunk sizes, and one image out of a file of single ones."""
    sizes = {str(chunk): 8 * len(compress(model, items, chunk=chunk)) / items.size for chunk in CHUNKS}
    archive = Archive(compress(model, items, chunk=1))
    middle = len(items) // 2
    start = time.process_time()
    one = archive.decode(model, slice(middle, middle + 1))
    seconds = time.process_time() - start
    assert np.array_equal(one, items[middle : middle + 1]), "the image decoded alone differs"
    return {"bits_per_dim_by_chunk": sizes, "one_image_ms": 1000 * seconds, "images": len(items)}


def measure(path: Path, images: int, timed: int) -> dict[str, Any]:
    """One run."""
    run = load_run(path)
    data = load_data(run.recipe.data.name, **run.recipe.data.options)
    test = data.split("test").x[:images]
    part = DataSet(data.name, data.space, {"test": Split(test)})
    with tempfile.TemporaryDirectory() as folder:
        coded = measure_coding(run, part, "test", folder=Path(folder)).to_json()
    coded.pop("file")
    model, _ = load_coder(run)
    model.eval()
    x = torch.from_numpy(test[:timed].astype(np.int64))
    return {
        "coding": coded,
        "speed": timed_path(model, x),
        "access": access(model, test[:timed]),
        "share_of_latents_moved_by_couplings": share_moved(model, x),
        "learning_curve": learning_curve(path.with_name(path.name.rpartition("-int")[0])),
    }


def share_moved(model: Any, x: torch.Tensor) -> float:
    """Share of latents that are others than if no coupling translated."""
    return sum(int((a != b).sum()) for a, b in zip(model.latents(x), _still(model, x), strict=True)) / x.numel()


def _still(model: Any, x: torch.Tensor) -> list[torch.Tensor]:
    """The latents of the same flow with all translations zero."""
    original = model.translation
    model.translation = lambda index, free: torch.zeros_like(original(index, free))
    try:
        return list(model.latents(x))
    finally:
        model.translation = original


def learning_curve(folder: Path) -> list[dict[str, Any]]:
    """Validation bits/dim by step, of the float run beside the quantized one, where it is there."""
    metrics = folder / "metrics.jsonl"
    if not metrics.is_file():
        return []
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    return [
        {k: line[k] for k in ("step", "bits_per_dim") if k in line}
        for line in lines
        if line.get("split") == "validation"
    ]


def main() -> None:
    """Measure runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--timed", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "integer_flow.json")
    arguments = parser.parse_args()
    if not arguments.runs:
        print("give quantized runs of the system idf; see docs/models/idf.md")
        return
    torch.set_num_threads(1)
    results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"runs": {}}
    results |= {"torch": torch.__version__, "cpu": platform.processor() or platform.machine()}
    for path in arguments.runs:
        results["runs"][load_run(path).recipe.name] = measure(path, arguments.images, arguments.timed)
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")
    print(arguments.out)


if __name__ == "__main__":
    main()
