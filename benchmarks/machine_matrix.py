"""Do codes decode anywhere? Encodes and decodes in fresh processes that compute differently; prints JSON.

    python benchmarks/machine_matrix.py QUANTIZED_RUN [--float FLOAT_RUN] [--images 256] > benchmarks/results/machine_matrix.json

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


def worker(action: str, run: str, folder: Path, images: int, threads: int) -> None:
    """One process: encode into or decode from `folder`; prints what came out."""
    import torch

    from codelength.coding.codec import CODECS, codec_of
    from codelength.data import load_data
    from codelength.errors import CodelengthError
    from codelength.run import load_run

    torch.set_num_threads(threads)
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
    print(json.dumps(said))


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


def process(action: str, run: str, folder: Path, images: int, setting: str, threads: int) -> dict[str, Any]:
    """A fresh process under a setting; what it said."""
    arguments = [sys.executable, __file__, run, "--worker", action, "--folder", str(folder)]
    arguments += ["--images", str(images), "--threads", str(threads)]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    # Waiting threads sleep: on a machine with other work to do they would only take time from it.
    environment |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
    done = subprocess.run(arguments, env={**environment, **SETTINGS[setting]}, capture_output=True, text=True)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1]}
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def matrix(run: str, images: int) -> dict[str, Any]:
    """All conditions for one run."""
    rows, first = [], None
    with tempfile.TemporaryDirectory() as scratch:
        reference = Path(scratch) / "reference"
        reference.mkdir()
        for setting in SETTINGS:
            for threads in THREADS:
                folder = reference if first is None else Path(scratch)
                encoded = process("encode", run, folder, images, setting, threads)
                first = first or encoded
                decoded = process("decode", run, reference, images, setting, threads)
                same = {name: encoded.get(name) == first[name] for name in ("alone", "lockstep")}
                refused = "refused" in encoded and "refused" in decoded
                fine = refused or (all(same.values()) and all(decoded.get(name) is True for name in same))
                rows.append(
                    {
                        "setting": setting,
                        "threads": threads,
                        "kernel": encoded.get("kernel"),
                        "same_bytes": None if refused else same,
                        "decodes": None if refused else {name: decoded.get(name, False) for name in same},
                        "refused": encoded.get("refused"),
                        "error": encoded.get("error") or decoded.get("error"),
                        "passes": fine,
                    }
                )
                print(f"{setting} x {threads}: {'ok' if fine else 'FAILS'}", file=sys.stderr)
    return {"run": Path(run).name, "images": images, "conditions": rows, "all_pass": all(r["passes"] for r in rows)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--float", dest="control")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--control-images", type=int, default=16)
    parser.add_argument("--worker", choices=["encode", "decode"])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.worker, arguments.run, arguments.folder, arguments.images, arguments.threads)
        return
    import torch

    results = {"torch": torch.__version__, "integer": matrix(arguments.run, arguments.images)}
    if arguments.control:
        results["float_control"] = matrix(arguments.control, arguments.control_images)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
