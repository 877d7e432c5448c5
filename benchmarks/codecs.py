"""Bits/dim of established lossless codecs on the CIFAR-10 test set, printed as JSON.

    CODELENGTH_DATA=... python benchmarks/codecs.py --limit 2000

Every image is decoded again and compared.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from codelength.coding import codec_baselines
from codelength.data import load_data


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="cifar10", help="data set")
    parser.add_argument("--split", default="test", help="split")
    parser.add_argument("--limit", type=int, help="use only the first images")
    arguments = parser.parse_args()
    split = load_data(arguments.data).split(arguments.split)
    x = split.x[: arguments.limit]
    start = time.perf_counter()
    results = codec_baselines(x)
    record = {
        "data": arguments.data,
        "split": arguments.split,
        "images": len(x),
        "shape": list(x.shape[1:]),
        "seconds": round(time.perf_counter() - start, 1),
        "codecs": [result.to_json() for result in results],
    }
    json.dump(record, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
