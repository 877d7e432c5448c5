"""What training and scoring cost: time of a step against batch size, threads, image size and model size. JSON and SVG.

    python benchmarks/cost.py            # measure, into results/cost.json
    python benchmarks/cost.py --operations   # floating-point operations of the papers' networks, into results/cost.json
    python benchmarks/cost.py --plot     # draw docs/figures/scale-*.svg from results/cost.json and results/large_data.json

One setting is varied at a time around PixelCNN++ with 16 filters, 1 block and 2 stages on images 3x32x32, batch 8, one
thread; Glow of 2 scales of 4 steps and 32 hidden channels likewise. All settings are measured three times in turns, since other
work on the machine comes and goes: of medians over 7 steps, in CPU-seconds of the process and in wall seconds, the least is kept, and the
fastest step of all. K is varied for a VAE's K-sample bound.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codelength.data.dataset import DataSet, Split
from codelength.evaluation.estimate import per_example_nats
from codelength.models.base import num_parameters
from codelength.models.registry import build_model
from codelength.recipe import parse_recipe
from codelength.space import Space
from codelength.training.loop import Loop
from codelength.training.progress import Talk

RESULTS = Path(__file__).parent / "results"
FIGURES = Path(__file__).parents[1] / "docs" / "figures"
BASE: dict[str, Any] = {"system": "pixelcnn_pp", "batch": 8, "threads": 1, "side": 32, "filters": 16}
VARIED: dict[str, list[int]] = {
    "batch": [2, 4, 8, 16, 32],
    "side": [16, 32, 64],
    "filters": [8, 16, 32, 64],
    "threads": [1, 2],
}


def options(system: str, filters: int) -> dict[str, Any]:
    if system == "glow":
        return {"scales": 2, "depth": 4, "filters": filters}
    return {"filters": filters, "blocks": 1, "stages": 2, "components": 5}


def step_time(setting: dict[str, Any], steps: int = 7) -> dict[str, Any]:
    """Median time of a step of the trainer."""
    torch.set_num_threads(setting["threads"])
    shape = (3, setting["side"], setting["side"])
    x = np.random.default_rng(0).integers(0, 256, (64, *shape), dtype=np.uint8)
    data = DataSet("noise", Space.image(*shape), {"train": Split(x), "validation": Split(x[:2])})
    model = {"system": setting["system"], "options": options(setting["system"], setting["filters"])}
    training = {"steps": 10**6, "batch_size": setting["batch"], "ema_decay": 0.999, "clip_norm": 1.0}
    recipe = parse_recipe({"name": "cost", "data": {"name": "noise"}, "model": model, "training": training})
    with tempfile.TemporaryDirectory() as folder:
        place = ("validation", data.split("validation"))
        loop = Loop(recipe, data, Path(folder), torch.device("cpu"), Talk(1, False), place)
        loop.begin(None)
        rows = []
        with closing(loop):
            for loop.step in range(1, steps + 3):
                wall, cpu = time.perf_counter(), time.process_time()
                loop._train_step()
                rows.append((time.perf_counter() - wall, time.process_time() - cpu))
        parameters = num_parameters(loop.model)
    wall, cpu = (statistics.median(row[i] for row in rows[2:]) for i in (0, 1))
    fastest = min(row[0] for row in rows[2:])
    return {**setting, "parameters": parameters, "cpu_seconds": round(cpu, 5), "seconds": round(wall, 5),
            "fastest_seconds": round(fastest, 5)}  # fmt: skip


def bound_time(samples: int) -> dict[str, Any]:
    """CPU-seconds of a K-sample bound a datum."""
    torch.set_num_threads(1)
    space = Space.image(1, 28, 28, levels=2)
    torch.manual_seed(0)
    model = build_model("vae", space, filters=16)
    x = np.random.default_rng(0).integers(0, 2, (8, 1, 28, 28), dtype=np.uint8)
    per_example_nats(model, Split(x[:1]), samples=samples)
    start = time.process_time()
    per_example_nats(model, Split(x), samples=samples)
    return {"samples": samples, "cpu_seconds_a_datum": round((time.process_time() - start) / len(x), 6)}


LARGE = {
    "pixelcnn_pp": {"filters": 160, "blocks": 5, "stages": 3, "components": 10, "dropout": 0.5},
    "glow": {"scales": 4, "depth": 48, "filters": 512},
}
"""Networks of the papers' sizes for images 3x64x64."""


def operations() -> dict[str, Any]:
    """Multiplications and additions of one forward pass of a 3x64x64 image, as torch counts them, and parameters."""
    from torch.utils.flop_counter import FlopCounterMode

    torch.set_num_threads(1)
    counted = {}
    for system, chosen in LARGE.items():
        space = Space("image", (3, 64, 64), 256)
        torch.manual_seed(0)
        model: Any = build_model(system, space, **chosen).eval()
        x = torch.randint(0, 256, (1, 3, 64, 64))
        if hasattr(model, "initialize"):
            with torch.no_grad():
                model.initialize(x, torch.Generator().manual_seed(0))
        counter = FlopCounterMode(display=False)
        start = time.process_time()
        with torch.no_grad(), counter:
            per_example_nats(model, Split(x.numpy().astype(np.uint8)))
        seconds = time.process_time() - start
        counted[system] = {"options": chosen, "parameters": num_parameters(model), "flops": counter.get_total_flops(),
                           "cpu_seconds": round(seconds, 2)}  # fmt: skip
        print(system, json.dumps(counted[system]), flush=True)
    return counted


def settings() -> dict[str, list[dict[str, Any]]]:
    """What is measured."""
    varied = {name: [{**BASE, name: value} for value in values] for name, values in VARIED.items()}
    glow = {**BASE, "system": "glow", "filters": 32, "batch": 4}
    return {**varied, "glow": [{**glow, "side": side} for side in (16, 32, 64)]}


def least(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The least times of one setting's measurements."""
    return {key: min(row[key] for row in rows) if "seconds" in key else value for key, value in rows[0].items()}


def measure(rounds: int = 3) -> dict[str, Any]:
    found = [{name: [step_time(setting) for setting in of] for name, of in settings().items()} for _ in range(rounds)]
    bounds = [[bound_time(samples) for samples in (1, 10, 100, 1000)] for _ in range(rounds)]
    rows = {
        name: [least(list(several)) for several in zip(*(f[name] for f in found), strict=True)] for name in found[0]
    }
    rows["samples"] = [least(list(several)) for several in zip(*bounds, strict=True)]
    for name in settings():
        print(name, json.dumps([row["cpu_seconds"] for row in rows[name]]), flush=True)
    return {"base": BASE, "rounds": rounds, "rows": rows, "cores": os.cpu_count(), "load_average": os.getloadavg()}


def plot(results: dict[str, Any], large: dict[str, Any]) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "codelength"
    import matplotlib.pyplot as plt

    FIGURES.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(2, 2, figsize=(9, 6.4))
    labels = {"batch": "batch size", "side": "side of the image", "filters": "filters", "threads": "threads"}
    for axis, (name, label) in zip(axes.flat, labels.items(), strict=True):
        rows = results["rows"][name]
        axis.plot([r[name] for r in rows], [r["cpu_seconds"] for r in rows], "o-", label="CPU-seconds")
        axis.plot([r[name] for r in rows], [r["fastest_seconds"] for r in rows], "s--", label="fastest wall seconds")
        axis.set(xlabel=label, ylabel="a step", ylim=(0, None), xticks=[r[name] for r in rows])
        axis.legend()
    figure.suptitle("Time of a training step, PixelCNN++")
    figure.tight_layout()
    figure.savefig(FIGURES / "scale-step.svg", metadata={"Date": None})
    if "linear" in large:
        rows = large["linear"]["rows"]
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
        left.plot([r["images"] for r in rows], [r["cpu_seconds"] for r in rows], "o-")
        left.set(xlabel="images", ylabel="CPU-seconds", ylim=(0, None))
        right.plot([r["images"] for r in rows], [r["peak_resident_mib"] for r in rows], "o-")
        right.set(xlabel="images", ylabel="peak resident memory, MiB", ylim=(0, None))
        figure.suptitle("Evaluation of CIFAR-10 images")
        figure.tight_layout()
        figure.savefig(FIGURES / "scale-evaluation.svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", action="store_true", help="draw what was measured, and measure nothing")
    parser.add_argument("--operations", action="store_true", help="count operations, and measure no time")
    parser.add_argument("--out", type=Path, default=RESULTS / "cost.json")
    arguments = parser.parse_args()
    if arguments.plot:
        large = RESULTS / "large_data.json"
        plot(json.loads(arguments.out.read_text()), json.loads(large.read_text()) if large.is_file() else {})
        return
    results = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    results |= {"operations": operations()} if arguments.operations else measure()
    arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
