"""Evaluate a data set that is larger than memory: time and peak resident memory. JSON into results/.

    python benchmarks/large_data.py --gigabytes 20 --folder shards

Parquet shards of images 3x64x64 are made on the fly: a block of noise, shifted in value and place from row group to row
group. The model is the uniform one, which costs next to nothing, so that what is measured is the way of the data: reading,
the fingerprint, and the loop of `codelength evaluate`, run in a process of its own with one thread. It must find exactly 8
bits/dim and score every datum once. With --linear images of CIFAR-10's shape and a small model are scored instead: 1,250 to
10,000 images, for time and memory against their number.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
SHAPE = (3, 64, 64)
GROUP = 1024  # images of a row group: 12 MiB
GROUPS = 80  # row groups of a shard: about 1 GB


def groups(block: np.ndarray, first: int, count: int) -> Iterator[np.ndarray]:
    for index in range(first, first + count):
        yield np.roll(block, index, axis=0) + np.uint8(index % 251)


def make_shards(folder: Path, num_bytes: int, links: bool) -> int:
    """Write shards of at least so many bytes of pixels in all; the number of images.

    With `links` the first shard is written and repeated by hard links: as many bytes are read, but one is stored.
    """
    from codelength.data.sources import write_parquet

    folder.mkdir(parents=True, exist_ok=True)
    block = np.random.default_rng(0).integers(0, 256, (GROUP, *SHAPE), dtype=np.uint8)
    total = -(-num_bytes // block.nbytes)
    total = -(-total // GROUPS) * GROUPS if links else total
    for shard, first in enumerate(range(0, total, GROUPS)):
        if links and shard:
            os.link(folder / "test-00000.parquet", folder / f"test-{shard:05}.parquet")
            continue
        write_parquet(folder / f"test-{shard:05}.parquet", groups(block, first, min(GROUPS, total - first)))
    return total * GROUP


def make_run(folder: Path, shape: tuple[int, ...], system: str, options: dict[str, Any], steps: int = 1) -> Path:
    """A run of a model of images of `shape`, trained on a little noise."""
    from codelength.data.dataset import DataSet, Split
    from codelength.recipe import parse_recipe
    from codelength.space import Space
    from codelength.training import train

    x = np.random.default_rng(1).integers(0, 256, (64, *shape), dtype=np.uint8)
    space = Space("image", shape, 256, channels=("red", "green", "blue"))
    data = DataSet("noise", space, {"train": Split(x), "validation": Split(x[:8])})
    fields = {"name": "large", "data": {"name": "noise"}, "model": {"system": system, "options": options}}
    train(parse_recipe({**fields, "training": {"steps": steps}}), folder, progress=False, data=data)
    return folder


# A process starts with its parent's peak of resident memory, and this one's is large: a small one stands between them.
WATCH = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print()
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
sys.exit(code)
"""


def evaluate(run: Path, data: str, split: str, *more: str) -> dict[str, Any]:
    """`codelength evaluate` in a process of its own: its record, seconds, and peak resident memory."""
    command = [
        sys.executable,
        "-m",
        "codelength.cli.main",
        "evaluate",
        str(run),
        "--data",
        data,
        "--split",
        split,
        "--json",
    ]
    start = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", WATCH, *command, *more], stdout=subprocess.PIPE, text=True, env=environment, check=True
    )
    output, _, usage = done.stdout.rstrip().rpartition("\n")
    cpu, peak = (float(word) for word in usage.split())
    return {
        "record": json.loads(output),
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(cpu, 1),
        "peak_resident_mib": round(peak / 1024, 1),
    }


def large(arguments: argparse.Namespace) -> dict[str, Any]:
    folder = Path(arguments.folder)
    start = time.perf_counter()
    images = make_shards(folder / "shards", int(arguments.gigabytes * 1e9), arguments.links)
    made = time.perf_counter() - start
    try:
        run = make_run(folder / "run", SHAPE, "uniform", {})
        found = evaluate(run, f"parquet:{folder / 'shards'}", "test", "--batch-size", "256")
        on_disk = sum(path.stat().st_size for path in (folder / "shards").iterdir())
        shards = len(list((folder / "shards").iterdir()))
    finally:
        shutil.rmtree(folder)
    record = found.pop("record")
    assert record["num_examples"] == images
    assert abs(record["bits_per_dim"] - 8) < 1e-9
    return {
        "model": "uniform",
        "images": images,
        "shape": SHAPE,
        "bytes_on_disk": on_disk,
        "shards": shards,
        "shards_are_links_to_the_first": arguments.links,
        "seconds_to_make": round(made, 1),
        **found,
        "bits_per_dim": record["bits_per_dim"],
        "data_sha256": record["data_sha256"],
        "megabytes_per_cpu_second": round(on_disk / 1e6 / found["cpu_seconds"], 1),
        "load_average": os.getloadavg(),
    }


def linear(arguments: argparse.Namespace) -> dict[str, Any]:
    """Evaluation of CIFAR-10's test images, 1,250 to 10,000 of them."""
    from codelength.data import load_data

    options = {"filters": 8, "blocks": 1, "stages": 1, "components": 5}
    x = load_data("cifar10").split("test").x
    rows = []
    with tempfile.TemporaryDirectory() as name:
        run = make_run(Path(name) / "run", (3, 32, 32), "pixelcnn_pp", options)
        for count in (1250, 2500, 5000, 10_000):
            np.save(Path(name) / f"test-{count}.npy", x[:count])
            found = evaluate(run, f"arrays:{name}/test-{count}.npy", "test", "--batch-size", "100")
            record = found.pop("record")
            assert record["num_examples"] == count
            rows.append({"images": count, **found, "scoring_seconds": round(record["seconds"], 2)})
            print(json.dumps(rows[-1]), flush=True)
    return {"model": {"system": "pixelcnn_pp", **options}, "rows": rows, "load_average": os.getloadavg()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--folder", default=str(Path(tempfile.gettempdir()) / "codelength-large"))
    parser.add_argument("--links", action="store_true", help="write one shard and repeat it by hard links")
    parser.add_argument("--linear", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS / "large_data.json")
    arguments = parser.parse_args()
    results = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    key = "linear" if arguments.linear else f"{arguments.gigabytes:g} GB"
    results[key] = linear(arguments) if arguments.linear else large(arguments)
    arguments.out.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results[key]))


if __name__ == "__main__":
    main()
