"""65,536 levels: held-out 16-bit slices as a coded file, beside PNG and JPEG XL; memory of the mixture's loss.

    python benchmarks/gray16.py VOLUME [--run RUN] [--out benchmarks/results/gray16.json]

VOLUME is a .npy or .npy.xz file of slices (N, H, W), uint16: one volume of a magnetic resonance scan, say. The last slices are the
test data, the one before them the validation data, the others the training data, so that none is seen in two roles.
Each slice is written as a 16-bit PNG; the recipe `slices16-causal_window` trains on that folder, `measure_coding` codes the test
slices and decodes them in a fresh process. The established codecs take the same slices, one file each; sizes of files are
sums of bytes.

The loss is measured in processes of their own: the most bytes that tensors of a forward and backward pass occupy at one time, at
256 and 65,536 levels.
"""

from __future__ import annotations

import argparse
import io
import json
import lzma
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

RECIPE = "slices16-causal_window"
SITES = 2**19
LEVELS = (256, 65_536)


def load_volume(path: Path) -> np.ndarray:
    """Slices, (N, H, W), uint16."""
    content = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    volume: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
    if volume.ndim != 3 or volume.dtype != np.uint16:
        raise SystemExit(f"{path} holds {volume.dtype} {volume.shape}; wanted slices (N, H, W) of uint16")
    return volume


def write_slices(volume: np.ndarray, folder: Path, held_out: int) -> None:
    """One 16-bit PNG a slice, in the folders of its split."""
    from codelength.coding.files import png_bytes

    first_test = len(volume) - held_out
    for index, pixels in enumerate(volume):
        split = "test" if index >= first_test else "validation" if index == first_test - 1 else "train"
        (folder / split).mkdir(parents=True, exist_ok=True)
        (folder / split / f"{index:04}.png").write_bytes(png_bytes(pixels[None]))


def loss_memory(levels: int) -> dict[str, float]:
    """MiB that forward and backward pass of a mixture of 10 logistics take at SITES sites, in this process."""
    from codelength.pixels import make_likelihood
    from codelength.space import Space

    likelihood = make_likelihood("logistic_mixture", Space.image(1, 1, SITES, levels))
    parameters = torch.randn(1, likelihood.num_parameters, 1, SITES, requires_grad=True)
    x = torch.randint(levels, (1, 1, 1, SITES))
    likelihood(parameters[..., :8]).log_prob(x[..., :8]).sum().backward()  # what libraries load once
    parameters.grad = None
    started = time.process_time()
    with torch.profiler.profile(profile_memory=True) as profile:
        (-likelihood(parameters).log_prob(x)).sum().backward()
    seconds = time.process_time() - started
    # Resident size would say what the allocator kept and the system took back; these are the tensors themselves.
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    mib = max(np.cumsum(sizes)) / 2**20
    return {"levels": levels, "sites": SITES, "peak_mib": round(float(mib), 1), "cpu_seconds": round(seconds, 2)}


def measure_memory() -> list[dict[str, float]]:
    """`loss_memory` of each number of levels in a fresh process."""
    rows = []
    for levels in LEVELS:
        command = [sys.executable, __file__, "--levels", str(levels)]
        rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def code(
    volume: np.ndarray, folder: Path, held_out: int, trained: Path | None, overrides: dict[str, Any]
) -> dict[str, Any]:
    """Train (unless a run is given), code the held-out slices, and size the other codecs on them."""
    from codelength.coding import codec_baselines, measure_coding
    from codelength.data import load_data
    from codelength.models.base import num_parameters
    from codelength.recipe import load_recipe
    from codelength.run import load_run
    from codelength.training import train

    write_slices(volume, folder / "slices16", held_out)
    recipe = load_recipe(RECIPE, {"data.name": str(folder / "slices16"), **overrides})
    started = time.process_time()
    run = load_run(trained) if trained is not None else train(recipe, folder / "run")
    seconds = time.process_time() - started
    data = load_data(str(folder / "slices16"))
    codecs = [result.to_json() for result in codec_baselines(data.split("test").x)]
    coded = measure_coding(run, data, "test", folder=folder).to_json()
    del coded["file"], coded["run"]
    return {
        "recipe": RECIPE,
        "levels": data.space.levels,
        "largest_value": int(volume.max()),
        "slices": {name: len(split) for name, split in data.splits.items()},
        "parameters": num_parameters(run.build()),
        "model_bytes_float32": 4 * num_parameters(run.build()),
        "training_cpu_seconds": round(seconds, 1) if trained is None else run.metrics()[-1]["cpu_seconds"],
        "coded": coded,
        "codecs": [row for row in codecs if row["total_bytes"] is not None],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("volume", type=Path, nargs="?", help="slices (N, H, W) of uint16, .npy or .npy.xz")
    parser.add_argument("--held-out", type=int, default=4, help="test slices, the last of the volume")
    parser.add_argument("--run", type=Path, help="a run trained before, instead of training")
    parser.add_argument("--steps", type=int, help="training steps; the recipe's by default")
    parser.add_argument("--levels", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "gray16.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.levels is not None:
        print(json.dumps(loss_memory(arguments.levels)))
        return
    if arguments.volume is None:
        print("no volume given: nothing to code (see --help)")
        return
    memory = measure_memory()
    volume = load_volume(arguments.volume)
    overrides = {} if arguments.steps is None else {"training.steps": arguments.steps}
    with tempfile.TemporaryDirectory() as scratch:
        result = code(volume, Path(scratch), arguments.held_out, arguments.run, overrides)
    result = {"volume": arguments.volume.name, "mixture_loss": memory, **result}
    print(f"codelength {result['coded']['coded_total_bytes']:,} bytes, decoded and compared")
    for row in result["codecs"]:
        print(f"{row['name']}, {row['scope']} {row['total_bytes']:,} bytes")
    for row in memory:
        print(f"loss at {row['levels']} levels: {row['peak_mib']} MiB")
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
