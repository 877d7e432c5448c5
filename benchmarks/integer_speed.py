"""How quick an integer codec is and where its time goes; prints JSON.

    python benchmarks/integer_speed.py QUANTIZED_RUN [--images 512] [--threads 2]

Wall-clock and process CPU seconds; MB are 10^6 bytes of pixels. The share of the entropy coder is the CPU time of coding the same decisions again
without the model.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from typing import Any

import torch

from codelength.coding import integer_codec
from codelength.coding.bits import WHOLE, BitReader, BitWriter
from codelength.data import load_data
from codelength.integer import IntegerLinear
from codelength.run import load_run
from codelength.units import bits


def timed(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """Result, wall-clock seconds, CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def coder_seconds(model: Any, x: torch.Tensor) -> tuple[float, float]:
    """CPU seconds of the range coder alone, encoding and decoding the decisions of x."""
    with torch.inference_mode():
        made = list(integer_codec._coding_order(model, x, {}))
    writer = BitWriter()
    _, _, encoding = timed(lambda: [integer_codec.write_decisions(writer, coded) for coded in made])
    reader = BitReader(writer.finish())
    _, _, decoding = timed(lambda: [reader.code(coded & (WHOLE - 1), None) for coded in made])
    return encoding, decoding


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--split", default="validation")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    run = load_run(arguments.run)
    model: Any = run.load_model()
    data = load_data(run.recipe.data.name, **run.recipe.data.options)
    x = data.split(arguments.split).batch(slice(0, arguments.images))
    integer_codec.encode(model, x[:2])
    stream, encode_wall, encode_cpu = timed(lambda: integer_codec.encode(model, x))
    decoded, decode_wall, decode_cpu = timed(lambda: integer_codec.decode(model, stream, len(x)))
    encoder, decoder = coder_seconds(model, x - model.space.offset)
    with torch.no_grad():
        total = float(bits(-model.log_prob(x).sum()))
    megabytes = x.numel() / 1e6
    result = {
        "run": run.name,
        "images": len(x),
        "threads": arguments.threads,
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "kernel": next(m.derived["kernel"] for m in model.modules() if isinstance(m, IntegerLinear)),
        "exact": bool(torch.equal(decoded, x)),
        "bits_per_dim": len(stream) * 8 / x.numel(),
        "coded_over_model": len(stream) * 8 / total - 1,
        "encode": {"MB_per_s": megabytes / encode_wall, "MB_per_cpu_s": megabytes / encode_cpu},
        "decode": {"MB_per_s": megabytes / decode_wall, "MB_per_cpu_s": megabytes / decode_cpu},
        "entropy_coder_share": {"encode": encoder / encode_cpu, "decode": decoder / decode_cpu},
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
