"""The proof of a number: code a split for real, decode it in a fresh process, compare every byte."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codelength.coding.codec import CODECS, DEFAULT_CHUNK, codec_of, compress, load_coder
from codelength.coding.conditions import checked_conditions, condition_nats
from codelength.coding.container import MAX_CHUNK_ITEMS
from codelength.coding.describe import coded_bits_per_dim
from codelength.coding.files import condition_file, npy_bytes
from codelength.coding.layout import Layout
from codelength.coding.sequence_codec import pack
from codelength.data.dataset import DataSet
from codelength.errors import CodecError
from codelength.models.base import LikelihoodModel, can
from codelength.randomness import ExampleNoise
from codelength.run import Run, write_atomically
from codelength.units import bits, bits_per_dim

LOG_PROB_BATCH = 100


@dataclass(frozen=True)
class CodingResult:
    """What coding a split cost.

    Args:
        run: Name of the run.
        data: Name of the data set.
        split: Name of the split.
        data_sha256: Fingerprint of the integers coded.
        num_examples: Number of data.
        num_dims: Dims of each.
        file: The compressed file.
        coded_total_bytes: All of its bytes, header and index included.
        coded_bits_per_dim: The same in bits/dim.
        conditions: What the model is told of each datum, such as label; the file holds it.
        condition_bytes: What these cost by their adaptive frequencies, in bytes; part of both totals.
        model_total_bytes: −log2 P of the same data, or of a model that only bounds it its one-sample bound, conditions included, in
            bytes; a fraction of a byte is kept.
        model_bits_per_dim: The same in bits/dim.
        overhead_ratio: coded / model − 1.
        encode_seconds: Wall-clock time of encoding, model loading excluded.
        decode_seconds: The same of decoding, in the fresh process.
        verified: A fresh process that had only the file and the run decoded every byte.
    """

    run: str
    data: str
    split: str
    data_sha256: str
    num_examples: int
    num_dims: int
    file: str
    coded_total_bytes: int
    coded_bits_per_dim: float
    model_total_bytes: float
    model_bits_per_dim: float
    overhead_ratio: float
    encode_seconds: float
    decode_seconds: float
    verified: bool
    conditions: tuple[str, ...] = ()
    condition_bytes: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)


def measure_coding(run: Run, data: DataSet, split: str, *, folder: Path, chunk: int = DEFAULT_CHUNK) -> CodingResult:
    """Code a split with a run's model into `folder` and decode it in a fresh process.

    A conditional model's file holds the conditions, so that its size is a code length of the data and comparable with
    those of unconditional models.

    Args:
        run: Run of a model that a codec accepts.
        data: The data set; its integers are not within the fresh process's reach.
        split: Name of the split.
        folder: Where the file `RUN-DATA-SPLIT.clen` goes.
        chunk: Items a chunk.

    Raises:
        CodecError: The model cannot code, or the file did not decode to the same bytes.
        SpaceMismatchError: The data are not of the model's space.
    """
    x, size = data.split(split).x, data.split(split).x.size
    model, model_sha256 = load_coder(run)
    codec = CODECS[codec_of(model)]
    if split in data.texts and codec.nats is not None:
        # The text in one piece: its windows overlap, and a chunk would begin anew.
        tokens = data.texts[split].tokens
        x, size, chunk = pack(tokens, model.space.num_dims, model.space.offset), len(tokens), MAX_CHUNK_ITEMS
    classes = model.space.conditions
    conditions = checked_conditions(data.split(split).conditions, model.conditioning, classes, len(x))
    layout = Layout("array", (f"{data.name}-{split}.npy",))
    start = time.perf_counter()
    content = compress(
        model,
        x,
        conditions=conditions,
        model_sha256=model_sha256,
        name=run.name,
        layout=layout.to_json(),
        chunk=chunk,
    )
    encode_seconds = time.perf_counter() - start
    path = folder / f"{run.name}-{data.name}-{split}.clen"
    write_atomically(path, content)
    chunks = [{n: v[start : start + chunk] for n, v in conditions.items()} for start in range(0, len(x), chunk)]
    told = sum(condition_nats(part, classes) for part in chunks)
    if codec.nats is not None:
        nats = sum(codec.nats(model, x[i : i + chunk], codec.batch(model, chunk)) for i in range(0, len(x), chunk))
    else:
        nats = told + code_length(model, x, conditions)
    num_dims = math.prod(x.shape[1:])
    decode_seconds = verify_in_fresh_process(path, run.path, x, conditions)
    return CodingResult(
        run=run.name,
        data=data.name,
        split=split,
        data_sha256=data.split(split).fingerprint(),
        num_examples=len(x),
        num_dims=num_dims,
        file=str(path),
        coded_total_bytes=len(content),
        coded_bits_per_dim=coded_bits_per_dim(len(content), size),
        model_total_bytes=bits(nats) / 8,
        model_bits_per_dim=bits_per_dim(nats, size),
        overhead_ratio=len(content) * 8 / bits(nats) - 1,
        encode_seconds=encode_seconds,
        decode_seconds=decode_seconds,
        verified=True,
        conditions=tuple(conditions),
        condition_bytes=bits(told) / 8,
    )


def code_length(model: LikelihoodModel, x: np.ndarray, conditions: Mapping[str, np.ndarray] | None = None) -> float:
    """−log P of all of x given its conditions, by the model's parallel pass, or minus its one-sample bound; nats."""
    scorer: Any = model
    total = 0.0
    with torch.inference_mode():
        for start in range(0, len(x), LOG_PROB_BATCH):
            stop = start + LOG_PROB_BATCH
            part = torch.from_numpy(x[start:stop].astype(np.int64))
            told = {name: torch.from_numpy(values[start:stop]) for name, values in (conditions or {}).items()}
            if can(model, "log_prob"):
                log_prob = scorer.log_prob(part, **told)
            else:
                noise = ExampleNoise(0, range(start, start + len(part)))
                log_prob = scorer.log_weights(part, 1, noise, **told).total[0]
            total -= float(log_prob.double().sum())
    return total


def verify_in_fresh_process(
    file: Path, run: Path, x: np.ndarray, conditions: Mapping[str, np.ndarray] | None = None
) -> float:
    """Decode `file` in a process that has the file and the run folder only, and compare; seconds of decoding.

    Conditions must come back with the data.

    Raises:
        CodecError: The process failed, or one byte differs.
    """
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "decoded.npy"
        environment = {name: value for name, value in os.environ.items() if name != "CODELENGTH_DATA"}
        worker = [
            sys.executable,
            "-m",
            "codelength.coding.verify_worker",
            str(file.resolve()),
            str(run.resolve()),
            str(out),
        ]
        done = subprocess.run(worker, cwd=scratch, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise CodecError(f"{file} was not decoded in a fresh process: {done.stderr.strip() or done.returncode}")
        if out.read_bytes() != npy_bytes(np.ascontiguousarray(x)):
            raise CodecError(f"{file} decodes to other bytes in a fresh process; please report this with the run")
        for name, values in (conditions or {}).items():
            if not np.array_equal(np.load(condition_file(out, name), allow_pickle=False), values):
                raise CodecError(
                    f"{file} decodes to another {name} in a fresh process; please report this with the run"
                )
        seconds: float = json.loads(done.stdout)["seconds"]
        return seconds
