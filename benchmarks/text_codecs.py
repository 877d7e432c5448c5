"""A byte model as a compressor of held-out text, beside gzip, bz2, xz and zstd on the same bytes.

    python benchmarks/text_codecs.py RUN --split test -o benchmarks/results/text-codecs.json

The split is coded with the run's model into a file that a fresh process decodes and compares. Two sizes are given: the file alone, which needs
the run to decode, and the file with the run's weights as they are stored. zstd also gets the training text: as a trained dictionary of 110 KiB, and
whole, as a prefix it may refer to; neither dictionary is counted, as the model is not in the first size.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import json
import lzma
import tempfile
from dataclasses import asdict
from pathlib import Path

import zstandard

from codelength.coding import measure_coding
from codelength.data import load_data
from codelength.evaluation.provenance import git_commit, library_versions
from codelength.run import load_run

DICTIONARY = 112_640
SAMPLE = 4_096


def zstd_sizes(content: bytes, train: bytes) -> dict[str, int]:
    """zstd at its highest level: alone, with a trained dictionary, with the whole training text as prefix."""
    samples = [train[i : i + SAMPLE] for i in range(0, len(train), SAMPLE)]
    trained = zstandard.train_dictionary(DICTIONARY, samples, level=22)
    prefix = zstandard.ZstdCompressionDict(train, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    wide = zstandard.ZstdCompressionParameters.from_level(22, window_log=27, enable_ldm=True)
    coders = {
        "zstd -22": zstandard.ZstdCompressor(level=22),
        "zstd -22, trained dictionary": zstandard.ZstdCompressor(level=22, dict_data=trained),
        "zstd -22, training text as prefix": zstandard.ZstdCompressor(dict_data=prefix, compression_params=wide),
    }
    return {name: len(coder.compress(content)) for name, coder in coders.items()}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    run = load_run(arguments.run)
    data = load_data(run.recipe.data.name, **run.recipe.data.options)
    content, train = (b"".join([data.texts[name].content]) for name in (arguments.split, "train"))
    with tempfile.TemporaryDirectory() as folder:
        coded = measure_coding(run, data, arguments.split, folder=Path(folder))
    weights = (run.path / "model.safetensors").stat().st_size
    sizes = {
        f"{run.name}, model not counted": coded.coded_total_bytes,
        f"{run.name}, model counted": coded.coded_total_bytes + weights,
        "gzip -9": len(gzip.compress(content, 9, mtime=0)),
        "bz2 -9": len(bz2.compress(content, 9)),
        "xz -9e": len(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)),
        **zstd_sizes(content, train),
    }
    result = {
        "run": run.name,
        "data": data.name,
        "split": arguments.split,
        "bytes": len(content),
        "model_bytes": weights,
        "coding": {**asdict(coded), "file": Path(coded.file).name},
        "sizes": {name: {"bytes": size, "bits_per_byte": 8 * size / len(content)} for name, size in sizes.items()},
        "zstandard": zstandard.__version__,
        "commit": git_commit(),
        "library_versions": library_versions(),
    }
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    for name, size in sizes.items():
        print(f"{name:<45}{size:>12,} bytes{8 * size / len(content):>9.4f} bits/byte")


if __name__ == "__main__":
    main()
