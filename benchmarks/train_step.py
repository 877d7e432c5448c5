"""Time of a training step of a system, in float32 and bf16, channels-first and channels-last: JSON into results/.

    python benchmarks/train_step.py
    python benchmarks/train_step.py --system realnvp --set scales=2 --threads 1

By default PixelCNN++ with the paper's architecture at 32 filters and 1 block a stage, batches of 16 random images of
32x32x3. A step is the trainer's own: batch, forward, backward, gradient norm, optimizer and weight average. The median
over the steps is reported, as wall seconds and as CPU-seconds of the process, which other work on the machine moves less;
and the share that is not forward and backward, of the CPU-seconds. Wall seconds mean something on an idle machine only:
the load average is in the file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codelength.data.dataset import DataSet, Split
from codelength.models.base import num_parameters
from codelength.recipe import Recipe, parse_overrides, parse_recipe
from codelength.space import Space
from codelength.training.loop import Loop
from codelength.training.progress import Talk

PIXELCNN_PP = {"filters": 32, "blocks": 1, "stages": 3, "components": 10, "dropout": 0.5}
WARM_UP = 3


def random_images(shape: tuple[int, int, int], count: int = 256) -> DataSet:
    """Noise: the time of a step does not depend on the pixels."""
    x = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)
    return DataSet("noise", Space.image(*shape), {"train": Split(x), "validation": Split(x[:8])})


def measure(recipe: Recipe, data: DataSet, steps: int) -> dict[str, Any]:
    """Median times of a step of the trainer."""
    with tempfile.TemporaryDirectory() as folder:
        place = torch.device("cpu")
        loop = Loop(recipe, data, Path(folder), place, Talk(steps, False), ("validation", data.split("validation")))
        loop.begin(None)
        rows = []
        with closing(loop):
            for loop.step in range(1, WARM_UP + steps + 1):
                wall, cpu = time.perf_counter(), time.process_time()
                loop._train_step()
                rows.append((time.perf_counter() - wall, time.process_time() - cpu))
            bare = []
            for loop.step in range(1, steps + 1):
                cpu = time.process_time()
                loop.loss().backward()
                bare.append(time.process_time() - cpu)
                loop.model.zero_grad(set_to_none=True)
    wall, cpu = (statistics.median(row[i] for row in rows[WARM_UP:]) for i in (0, 1))
    return {
        "precision": recipe.training.precision,
        "channels_last": recipe.training.channels_last,
        "seconds_a_step": round(wall, 5),
        "cpu_seconds_a_step": round(cpu, 5),
        "images_per_second": round(recipe.training.batch_size / wall, 2),
        "images_per_cpu_second": round(recipe.training.batch_size / cpu, 2),
        "share_outside_forward_and_backward": round(1 - statistics.median(bare) / cpu, 4),
        "parameters": num_parameters(loop.model),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", default="pixelcnn_pp")
    parser.add_argument("--set", action="append", dest="options", default=[], metavar="KEY=VALUE", help="model option")
    parser.add_argument("--shape", type=int, nargs=3, default=(3, 32, 32), metavar=("C", "H", "W"))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "train_step.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    options = PIXELCNN_PP if arguments.system == "pixelcnn_pp" else {}
    options = {**options, **parse_overrides(arguments.options)}
    data = random_images(tuple(arguments.shape))
    rows = []
    for precision, channels_last in (("float32", False), ("float32", True), ("bf16", False), ("bf16", True)):
        training = {
            "steps": 10**6,
            "batch_size": arguments.batch,
            "optimizer": arguments.optimizer,
            "ema_decay": 0.9995,
            "clip_norm": 1.0,
            "precision": precision,
            "channels_last": channels_last,
        }
        model = {"system": arguments.system, "options": options}
        recipe = parse_recipe({"name": "train_step", "data": {"name": "noise"}, "model": model, "training": training})
        rows.append(measure(recipe, data, arguments.steps))
        print(json.dumps(rows[-1]), flush=True)
    result = {
        "system": arguments.system,
        "options": options,
        "batch": [arguments.batch, *arguments.shape],
        "optimizer": arguments.optimizer,
        "threads": arguments.threads,
        "steps": arguments.steps,
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
        "cpu": platform.processor() or platform.machine(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
