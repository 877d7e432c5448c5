"""Memory and time of the K-sample bound: flat in K.

    python benchmarks/bound_memory.py [--samples 10 1000] [--examples 500] [--out benchmarks/results/bound_memory.json]
    python benchmarks/bound_memory.py --system iwae --samples 10 5000 --examples 1000 --out benchmarks/results/bound_memory_latent.json

The first is a RealNVP on mnist5k; the second an IWAE of 8 latents and 16 units on the official binarized MNIST.

Each K runs in its own process, whose largest resident size is compared with that of the first K.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch


def measure(system: str, samples: int, examples: int, filters: int) -> dict[str, float]:
    """Peak resident MiB and seconds of one evaluation, in this process."""
    from codelength.data import load_data
    from codelength.evaluation import per_example_nats
    from codelength.models.registry import build_model

    latent = system == "iwae"
    data = load_data("mnist-static" if latent else "mnist5k")
    torch.manual_seed(0)
    options = {"latents": 8, "filters": 16, "blocks": 1} if latent else {"filters": filters, "blocks": 1}
    model = build_model(system, data.space, **options)
    started = time.perf_counter()
    result = per_example_nats(model, data.split("test"), samples=samples, indices=range(examples))
    return {
        "samples": samples,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "seconds": time.perf_counter() - started,
        "nats_per_example": float(result.code_length.mean()),
        "median_effective_samples": None if result.ess is None else float(np.median(result.ess)),
    }


def main() -> None:
    """Measure every K in a fresh process; print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", choices=["realnvp", "iwae"], default="realnvp")
    parser.add_argument("--samples", type=int, nargs="+", default=[10, 1000])
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--filters", type=int, default=8)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "bound_memory.json")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.system, arguments.samples[0], arguments.examples, arguments.filters)))
        return
    rows = []
    for samples in arguments.samples:
        command = [sys.executable, __file__, "--one", "--samples", str(samples)]
        command += ["--examples", str(arguments.examples), "--filters", str(arguments.filters)]
        command += ["--system", arguments.system]
        rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        print(rows[-1], flush=True)
    result = {
        "model": "iwae, 8 latents, 16 units, fresh weights, on mnist-static test"
        if arguments.system == "iwae"
        else f"realnvp, filters={arguments.filters}, blocks=1, fresh weights, on mnist5k test",
        "examples": arguments.examples,
        "rows": rows,
        "growth": rows[-1]["peak_mib"] / rows[0]["peak_mib"] - 1,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
