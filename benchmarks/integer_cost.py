"""What quantizing costs: bits/dim of a float run and of its integer forms on the same data; prints JSON.

python benchmarks/integer_cost.py RUN [--images 500] [--bits 8 10 12] [--finetune 0 300] [--split validation]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np
import torch

from codelength.coding import integer_codec
from codelength.data import load_data
from codelength.integer import IntegerLinear
from codelength.quantization import FineTuning, quantize_model
from codelength.run import load_run
from codelength.units import bits_per_dim

BATCH = 50


@torch.no_grad()
def score(model: Any, x: torch.Tensor) -> np.ndarray:
    """bits/dim of each datum."""
    nats = torch.cat([-model.log_prob(part) for part in x.split(BATCH)])
    return np.asarray(bits_per_dim(nats.double().numpy(), model.space.num_dims))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--split", default="validation")
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 10, 12])
    parser.add_argument("--finetune", type=int, nargs="+", default=[0])
    parser.add_argument("--calibration", type=int, default=512)
    parser.add_argument("--code", type=int, default=0, help="Images to code for real.")
    arguments = parser.parse_args()
    run = load_run(arguments.run)
    data, config = load_data(run.recipe.data.name, **run.recipe.data.options), run.recipe.model
    x = data.split(arguments.split).batch(slice(0, arguments.images))
    before = score(run.load_model(), x)
    rows = []
    for bits in arguments.bits:
        for steps in arguments.finetune:
            started = time.process_time()
            flip = run.recipe.training.horizontal_flip
            integer = quantize_model(
                run.load_model(),
                config.system,
                config.options,
                data.split("train"),
                bits=bits,
                calibration=arguments.calibration,
                tuning=FineTuning(steps, flip=flip) if steps else None,
            )
            quantized = time.process_time()
            loss = score(integer, x) - before
            row = {
                "activation_bits": bits,
                "finetune_steps": steps,
                "bits_per_dim": float((before + loss).mean()),
                "cost_bits_per_dim": float(loss.mean()),
                "standard_error": float(loss.std(ddof=1) / len(loss) ** 0.5),
                "largest_partial_sum": max(m.bound for m in integer.modules() if isinstance(m, IntegerLinear)),
                "quantize_cpu_seconds": round(quantized - started, 1),
                "score_cpu_seconds": round(time.process_time() - quantized, 1),
            }
            if arguments.code:
                part = x[: arguments.code]
                coded = len(integer_codec.encode(integer, part)) * 8 / part.numel()
                row["coded_over_model"] = coded / float((before + loss)[: arguments.code].mean()) - 1
            rows.append(row)
            print(row, file=sys.stderr)
    result = {
        "run": run.name,
        "data": data.name,
        "split": arguments.split,
        "num_examples": len(x),
        "float_bits_per_dim": float(before.mean()),
        "calibration": arguments.calibration,
        "quantized": rows,
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
