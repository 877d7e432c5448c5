"""Speed and overhead of the entropy coder alone, and of a whole codec: JSON on stdout.

    python benchmarks/codec_speed.py
    python benchmarks/codec_speed.py --run runs/demo/mnist5k-pixelcnn_pp --data mnist5k

The first half codes symbols drawn from random tables and mixtures: seconds are those of the coder and, for CDFs, of the
evaluations along the bisection. The second half codes a split with a run's model and reports where the time goes. All
seconds are CPU-seconds of the process.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codelength.coding.codec import Archive, compress, load_coder
from codelength.coding.entropy import Decoder, Encoder
from codelength.data import load_data
from codelength.pixels.logistic_mixture import LogisticMixtureChannel
from codelength.run import load_run


def tables(levels: int, count: int) -> dict[str, Any]:
    """Code `count` symbols, each with its own table of `levels` masses."""
    rng = np.random.default_rng(0)
    p = rng.gamma(0.1, size=(count, levels)) + 1e-12
    p /= p.sum(1, keepdims=True)
    symbols = (p.cumsum(1) < rng.random((count, 1))).sum(1).clip(0, levels - 1)
    ideal = float(-np.log2(p[np.arange(count), symbols]).sum())
    encoder, start = Encoder(), time.process_time()
    encoder.encode(symbols, p)
    stream = encoder.finish()
    middle = time.process_time()
    assert np.array_equal(Decoder(stream).decode(p), symbols)
    end = time.process_time()
    return _row("table", levels, count, middle - start, end - middle, 8 * len(stream), ideal)


def mixture(levels: int, count: int, components: int = 10) -> dict[str, Any]:
    """Code `count` symbols by the CDF of mixtures of logistics, evaluated on demand."""
    generator = torch.Generator().manual_seed(0)
    logits, mean, log_scale = torch.randn((3, count, components), generator=generator)
    channel = LogisticMixtureChannel(logits, 0.5 * mean, -3 + 0.5 * log_scale, levels)
    values = channel.sample(generator)
    ideal = -float(channel.log_prob(values).double().sum()) / np.log(2)

    def cdf(value: np.ndarray) -> np.ndarray:
        return channel.cdf(torch.from_numpy(value)).numpy()

    encoder, start = Encoder(), time.process_time()
    encoder.encode_by_cdf(values.numpy(), cdf, levels)
    stream = encoder.finish()
    middle = time.process_time()
    assert np.array_equal(Decoder(stream).decode_by_cdf(count, cdf, levels), values.numpy())
    end = time.process_time()
    return _row("cdf of 10 logistics", levels, count, middle - start, end - middle, 8 * len(stream), ideal)


def _row(way: str, levels: int, count: int, encode: float, decode: float, coded: int, ideal: float) -> dict[str, Any]:
    return {
        "way": way,
        "levels": levels,
        "symbols": count,
        "encode_us_per_symbol": round(1e6 * encode / count, 3),
        "decode_us_per_symbol": round(1e6 * decode / count, 3),
        "coded_over_ideal": round(coded / ideal, 7),
        "extra_bits": round(coded - ideal, 1),
    }


def whole(run: Path, data: str, split: str, limit: int | None) -> dict[str, Any]:
    """Code a split with a run's model; the seconds inside the model's steps are taken out of the coder's."""
    opened = load_run(run)
    model, sha256 = load_coder(opened)
    x = load_data(data).split(split).x[:limit]
    step, spent = model.step, [0.0]

    def timed(*arguments: Any) -> Any:
        start = time.process_time()
        result = step(*arguments)
        spent[0] += time.process_time() - start
        return result

    model.step = timed
    start = time.process_time()
    content = compress(model, x, model_sha256=sha256)
    encode, encode_steps = time.process_time() - start, spent[0]
    spent[0], start = 0.0, time.process_time()
    assert np.array_equal(Archive(content).decode(model, model_sha256=sha256), x)
    decode, decode_steps = time.process_time() - start, spent[0]
    return {
        "run": opened.name,
        "data": f"{data}:{split}",
        "items": len(x),
        "bytes": len(content),
        "threads": torch.get_num_threads(),
        "encode_seconds": round(encode, 2),
        "encode_coder_seconds": round(encode - encode_steps, 2),
        "decode_seconds": round(decode, 2),
        "decode_coder_seconds": round(decode - decode_steps, 2),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="run whose codec is measured")
    parser.add_argument("--data", default="mnist5k")
    parser.add_argument("--split", default="test")
    parser.add_argument("--limit", type=int)
    arguments = parser.parse_args()
    rows = [tables(levels, 200_000 // levels + 1000) for levels in (2, 17, 256, 4096)]
    rows += [mixture(levels, 50_000) for levels in (256, 65536)]
    record: dict[str, Any] = {"entropy_coder": rows}
    if arguments.run:
        record["codec"] = whole(arguments.run, arguments.data, arguments.split, arguments.limit)
    json.dump(record, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
