"""Share of the machine's matrix product rate that training and evaluation reach: JSON and a table into results/.

    python benchmarks/roofline.py --threads 1

The rate is measured first: the best of products of bfloat16 and float32 matrices in PyTorch. A system's floating point operations are those of its
matrix products and convolutions (`torch.utils.flop_counter`), forward and backward; seconds are CPU-seconds, medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codelength.bench.measure import machine, timed
from codelength.bench.operations import count
from codelength.bench.training_steps import OurSteps, images
from codelength.memory import keep_freed_memory

SYSTEMS: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "pixelcnn_pp": ({"filters": 32, "blocks": 1}, {"precision": "bf16", "channels_last": True}, 16),
    "glow": ({"scales": 2, "depth": 4, "filters": 64, "preprocessing": "rescale"}, {"precision": "bf16"}, 16),
    "causal_window": ({"width": 256}, {"precision": "bf16"}, 256),
}


def product_rate(dtype: torch.dtype, size: int = 1024, repeats: int = 5) -> float:
    """Floating point operations a CPU-second of a product of square matrices, the best of some."""
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    return max(2 * size**3 / timed(lambda: a @ b)["cpu"] for _ in range(repeats))


def measure(system: str, steps: int) -> dict[str, Any]:
    """Rates of a training step and of scoring, in operations a CPU-second."""
    options, training, batch = SYSTEMS[system]
    data = images(64)
    ours = OurSteps(system, options, data, batch, **training)
    model: Any = ours.loop.model
    ours.run(2)
    ours.loop.step += 1
    flops = count(lambda: ours.loop.loss().backward())["flops"]
    model.zero_grad(set_to_none=True)
    step = statistics.median(timed(lambda: ours.run(1))["cpu"] for _ in range(steps))
    x = torch.from_numpy(np.asarray(data.split("train").x)[:batch]).long()
    model.eval()

    def score() -> None:
        with torch.inference_mode():
            if hasattr(model, "log_prob"):
                model.log_prob(x)
            else:
                model.log_weights(x, 1, torch.Generator().manual_seed(0))

    score()
    forward = count(score)["flops"]
    scoring = statistics.median(timed(score)["cpu"] for _ in range(steps))
    ours.close()
    return {
        "system": system,
        "options": options,
        "batch": batch,
        "training_flops": flops,
        "training_cpu_seconds": round(step, 5),
        "training_rate": flops / step,
        "evaluation_flops": forward,
        "evaluation_cpu_seconds": round(scoring, 5),
        "evaluation_rate": forward / scoring,
    }


def table(rates: dict[str, float], rows: list[dict[str, Any]]) -> str:
    """The page's table."""
    lines = [
        f"Matrix products reach {rates['bfloat16'] / 1e9:.0f} GFLOP a CPU-second in bfloat16 and {rates['float32'] / 1e9:.0f} in float32.",
        "",
        "| system | training (bf16), GFLOP/s | of the bf16 rate | evaluation (float32), GFLOP/s | of the float32 rate |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            row["system"],
            f"{row['training_rate'] / 1e9:.1f}",
            f"{row['training_rate'] / rates['bfloat16']:.1%}",
            f"{row['evaluation_rate'] / 1e9:.1f}",
            f"{row['evaluation_rate'] / rates['float32']:.1%}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "roofline.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # as the command line does
    rates = {"bfloat16": product_rate(torch.bfloat16), "float32": product_rate(torch.float32)}
    rows = []
    for system in SYSTEMS:
        rows.append(measure(system, arguments.steps))
        print(json.dumps(rows[-1]), flush=True)
    record = {"product_rate": rates, "systems": rows, "machine": {**machine(), "threads": arguments.threads}}
    arguments.out.write_text(json.dumps(record, indent=1) + "\n")
    print(table(rates, rows))


if __name__ == "__main__":
    main()
