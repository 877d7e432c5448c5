"""Bits-back coding of runs: what the first test image costs, 10, 100 and all, beside the bound; every byte decoded again.

    python benchmarks/bits_back.py RUN... [--items N] [--out benchmarks/results/bits_back.json]

RUN is a run of a latent model or a flow that `codelength compress` can code. Each prefix of the test data becomes a file of one chunk. The
whole file is decoded in a fresh process that has the file and the run alone. The bound is that of one sample, averaged over `--draws`.
The net rate leaves out the initial bits: it is that of all data but the first 100.

Runs of the committed result, by `codelength train`: `mnist-realnvp`, with `--items 1000`; and, trained for seconds only, since the bits follow
the bound of any model,
`mnist-static-vae --set training.steps=1800 --set training.validate_every=600 --set training.ema_decay=0.995`,
`mnist-vae --set training.steps=200 --set training.batch_size=64 --set training.warmup_steps=30 --set training.ema_decay=0.95`,
`mnist-static-hierarchical_vae --set model.options.inference=bottom_up --set training.steps=1000 --set training.ema_decay=0.98`, with `--items 1000`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codelength.coding.bits_back import BitsBack, BitSwap
from codelength.coding.codec import Archive, codec_of, compress, load_coder
from codelength.coding.layout import Layout
from codelength.coding.measure import verify_in_fresh_process
from codelength.coding.stack import Stack
from codelength.data import load_data
from codelength.randomness import ExampleNoise
from codelength.run import load_run
from codelength.units import bits, bits_per_dim

PREFIXES = (1, 10, 100)
BATCH = 100


def bound_bits(model: Any, x: np.ndarray, draws: int) -> np.ndarray:
    """Minus the one-sample bound of each datum, bits, (N,), mean of `draws`."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(x), BATCH):
            part = torch.from_numpy(x[start : start + BATCH].astype(np.int64))
            noise = ExampleNoise(0, range(start, start + len(part)))
            parts.append(-model.log_weights(part, draws, noise).total.double().mean(0).numpy())
    return np.asarray(bits(np.concatenate(parts)))


def popped_bits(model: Any, x: np.ndarray) -> dict[str, int]:
    """Bits that the first image takes from the stack at most, in each order that can code the model."""
    random = np.random.default_rng(0).integers(1, 2**32, 50_000, dtype=np.uint32)
    orders = {"bits_back": BitsBack} | ({"bit_swap": BitSwap} if codec_of(model) == "bit_swap/1" else {})
    taken = {}
    with torch.inference_mode():
        for name, order in orders.items():
            stack = Stack(random.astype("<u4").tobytes())
            before = stack.bits
            order(model).encode(stack, torch.from_numpy(x[:1].astype(np.int64)), plain=False)
            taken[name] = before - stack.lowest
    return taken


def measure(path: Path, items: int | None, draws: int) -> dict[str, Any]:
    """Everything about one run."""
    run = load_run(path)
    model, sha256 = load_coder(run)
    x = load_data(run.recipe.data.name).split("test").x[:items]
    wanted = bound_bits(model, x, draws)
    rows, file = [], b""
    for count in (*[n for n in PREFIXES if n < len(x)], len(x)):
        start = time.process_time()
        layout = Layout("array", ("test.npy",)).to_json()
        file = compress(model, x[:count], model_sha256=sha256, name=run.name, layout=layout, chunk=2**16)
        rows.append(
            {
                "images": count,
                "file_bytes": len(file),
                "payload_bytes": sum(chunk.length for chunk in Archive(file).container.chunks),
                "bits_an_image": 8 * len(file) / count,
                "bound_bits_an_image": float(wanted[:count].mean()),
                "over_bound": 8 * len(file) / float(wanted[:count].sum()) - 1,
                "encode_cpu_seconds": time.process_time() - start,
            }
        )
        print(rows[-1], flush=True)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "test.clen"
        target.write_bytes(file)
        decode_seconds = verify_in_fresh_process(target, path, x)
    first, whole = (next(row for row in rows if row["images"] == n) for n in (PREFIXES[-1], len(x)))
    net = 8 * (whole["payload_bytes"] - first["payload_bytes"])
    net_bound = float(wanted[PREFIXES[-1] :].sum())
    dims = x[0].size
    return {
        "run": run.name,
        "system": run.recipe.model.system,
        "data": f"{run.recipe.data.name}, first {len(x)} of test" if items else f"{run.recipe.data.name} test",
        "codec": Archive(file).header.codec,
        "rows": rows,
        "net_bits_an_image": net / (len(x) - PREFIXES[-1]),
        "net_bits_per_dim": float(bits_per_dim(net * np.log(2), dims * (len(x) - PREFIXES[-1]))),
        "net_over_bound": net / net_bound - 1,
        "bits_popped_by_first_image": popped_bits(model, x) if "local" not in Archive(file).header.codec else None,
        "every_byte_decodes_in_a_fresh_process": True,  # else an error was raised
        "decode_seconds": decode_seconds,
        "training_cpu_seconds": next(
            (line["cpu_seconds"] for line in reversed(run.metrics()) if "cpu_seconds" in line), None
        ),
    }


def main() -> None:
    """Measure the runs; results of the same run replace older ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*", default=[Path("records/mnist-realnvp")])
    parser.add_argument("--items", type=int)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "bits_back.json")
    arguments = parser.parse_args()
    found: dict[str, Any] = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    for path in arguments.runs:
        found[path.name] = measure(path, arguments.items, arguments.draws)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
