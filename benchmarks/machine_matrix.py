"""Do codes decode anywhere? Encodes and decodes in fresh processes that compute differently; prints JSON.

    python benchmarks/machine_matrix.py QUANTIZED_RUN... [--float FLOAT_RUN] [--images 256] > benchmarks/results/machine_matrix.json

Each condition is a setting of the libraries that chooses other kernels, with one or two threads. In each, a fresh process encodes
an image alone and `--images` in lockstep, and another fresh process decodes what the first condition encoded. All conditions must write the
same bytes, so decoding one file in each of them covers every pair. The control codes the float model the same way, without the check of
machine classes, and must fail somewhere.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SETTINGS: dict[str, dict[str, str]] = {
    "defaults": {},
    "ATEN_CPU_CAPABILITY=default": {"ATEN_CPU_CAPABILITY": "default"},
    "MKL_ENABLE_INSTRUCTIONS=AVX2": {"MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "ONEDNN_MAX_CPU_ISA=AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "ONEDNN_MAX_CPU_ISA=AVX512_CORE": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "ONEDNN_DEFAULT_FPMATH_MODE=BF16": {"ONEDNN_DEFAULT_FPMATH_MODE": "BF16"},
}
THREADS = (1, 2)


def worker(action: str, runs: list[str], folder: Path, images: int, threads: int) -> None:
    """One process: encode into or decode from `folder`; prints what came out for each run."""
    import torch

    torch.set_num_threads(threads)
    said = {}
    for index, run in enumerate(runs):
        (folder / str(index)).mkdir(exist_ok=True)
        said[run] = _work(action, run, folder / str(index), images, threads)
    print(json.dumps(said))


def _work(action: str, run: str, folder: Path, images: int, threads: int) -> dict[str, Any]:
    from codelength.coding.codec import CODECS, codec_of
    from codelength.data import load_data
    from codelength.errors import CodelengthError
    from codelength.run import load_run

    opened = load_run(run)
    try:
        model = opened.load_model()
        codec = CODECS[codec_of(model)]
        x = load_data(opened.recipe.data.name).split("validation").batch(slice(0, images))
        said: dict[str, Any] = {"kernel": _kernel(model)}
        for name, part in (("alone", x[:1]), ("lockstep", x)):
            path = folder / f"{name}.stream"
            if action == "encode":
                path.write_bytes(codec.encode(model, part, batch=len(part), threads=threads))
                said[name] = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                said[name] = _decodes(codec, model, path, part, threads)
    except CodelengthError as error:
        said = {"refused": str(error)}
    return said


def _decodes(codec: Any, model: Any, path: Path, x: Any, threads: int) -> bool:
    import torch

    from codelength.errors import CodelengthError

    try:
        return torch.equal(codec.decode(model, path.read_bytes(), len(x), batch=len(x), threads=threads), x)
    except CodelengthError:
        return False


def _kernel(model: Any) -> str | None:
    from codelength.integer import IntegerLinear

    kernels = {layer.derived["kernel"] for layer in model.modules() if isinstance(layer, IntegerLinear)}
    return "+".join(sorted(kernels)) or None


def process(
    action: str, runs: list[str], folder: Path, images: int, setting: str, threads: int
) -> dict[str, dict[str, Any]]:
    """A fresh process under a setting; what it said of each run."""
    arguments = [sys.executable, __file__, *runs, "--worker", action, "--folder", str(folder)]
    arguments += ["--images", str(images), "--threads", str(threads)]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    # Waiting threads sleep: on a machine with other work to do they would only take time from it.
    environment |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
    done = subprocess.run(arguments, env={**environment, **SETTINGS[setting]}, capture_output=True, text=True)
    if done.returncode:
        return {run: {"error": done.stderr.strip().splitlines()[-1]} for run in runs}
    said: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return said


def matrix(runs: list[str], images: int) -> list[dict[str, Any]]:
    """All conditions, for each run; each process serves all runs."""
    rows: dict[str, list[dict[str, Any]]] = {run: [] for run in runs}
    first: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        reference = Path(scratch) / "reference"
        reference.mkdir()
        for setting in SETTINGS:
            for threads in THREADS:
                folder = Path(scratch) if first else reference
                encoded = process("encode", runs, folder, images, setting, threads)
                first = first or encoded
                decoded = process("decode", runs, reference, images, setting, threads)
                for run in runs:
                    row = judge(first[run], encoded[run], decoded[run])
                    rows[run].append({"setting": setting, "threads": threads, **row})
                    print(f"{run} {setting} x {threads}: {'ok' if row['passes'] else 'FAILS'}", file=sys.stderr)
    return [
        {"run": Path(run).name, "images": images, "conditions": part, "all_pass": all(row["passes"] for row in part)}
        for run, part in rows.items()
    ]


def judge(first: dict[str, Any], encoded: dict[str, Any], decoded: dict[str, Any]) -> dict[str, Any]:
    """Whether one condition writes the first one's bytes and decodes them, or refuses."""
    same = {name: encoded.get(name) == first[name] for name in ("alone", "lockstep")}
    refused = "refused" in encoded and "refused" in decoded
    return {
        "kernel": encoded.get("kernel"),
        "same_bytes": None if refused else same,
        "decodes": None if refused else {name: decoded.get(name, False) for name in same},
        "refused": encoded.get("refused"),
        "error": encoded.get("error") or decoded.get("error"),
        "passes": refused or (all(same.values()) and all(decoded.get(name) is True for name in same)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--float", dest="control")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--control-images", type=int, default=16)
    parser.add_argument("--worker", choices=["encode", "decode"])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.worker, arguments.runs, arguments.folder, arguments.images, arguments.threads)
        return
    import torch

    results = {"torch": torch.__version__, "integer": matrix(arguments.runs, arguments.images)}
    if arguments.control:
        (results["float_control"],) = matrix([arguments.control], arguments.control_images)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
