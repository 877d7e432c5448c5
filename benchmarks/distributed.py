"""Several processes against one: the same numbers, time of a step, memory with DDP and FSDP2. JSON into results/.

    python benchmarks/distributed.py losses       # 1 and 2 processes, 50 steps; records with 1, 2 and 3
    python benchmarks/distributed.py throughput   # steps a second of 1 and 2 processes of one thread
    python benchmarks/distributed.py memory       # a PixelCNN++ of 50 million parameters, 2 processes, DDP and FSDP2

Each part starts its processes by torchrun, as a user would. `memory` reads two figures in every process, after each of 3
steps with one 8x8 image a process, so that activations are small: the bytes of parameters, gradients and optimizer state
that are alive (peak over the steps, gathered weights of the block in work included), and the peak of resident memory
above that before the model was built.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codelength import distributed
from codelength.data.dataset import DataSet, Split
from codelength.models.base import num_parameters
from codelength.recipe import Recipe, parse_recipe
from codelength.space import Space
from codelength.training.engine import Execution
from codelength.training.loop import Loop
from codelength.training.metrics import peak_memory_mib
from codelength.training.progress import Talk

RESULTS = Path(__file__).parent / "results"
SMALL = {"filters": 24, "blocks": 1, "stages": 2, "dropout": 0.5}
LARGE = {"filters": 154, "blocks": 5, "stages": 3, "dropout": 0.5}


def torchrun(processes: int, arguments: list[str]) -> str:
    """Run this file, or the command line, in so many processes; its stdout."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run([*command, *arguments], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def recipe_text(steps: int, validate_every: int) -> str:
    fields = {
        "name": "distributed",
        "data": {"name": "digits"},
        "model": {"system": "pixelcnn_pp", "options": SMALL},
        "training": {"steps": steps, "batch_size": 48, "learning_rate": 1e-3, "ema_decay": 0.99,
                     "validate_every": validate_every, "checkpoint_every": steps},
    }  # fmt: skip
    return json.dumps(fields)  # JSON is YAML


def losses() -> dict[str, Any]:
    """Losses of 50 steps with 1 and 2 processes, test records of one run with 1, 2 and 3."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "distributed.yaml").write_text(recipe_text(50, 50))
        command = ["-m", "codelength.cli.main"]
        nats = {}
        for processes in (1, 2):
            run = folder / f"run-{processes}"
            torchrun(processes, [*command, "train", str(folder / "distributed.yaml"), "--out", str(run), "--quiet"])
            lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
            nats[processes] = np.array([line["nats"] for line in lines if line["split"] == "train"])
        records, arrays = {}, {}
        for processes in (1, 2, 3):
            torchrun(processes, [*command, "evaluate", str(folder / "run-1"), "--split", "test"])
            (kept,) = (folder / "run-1" / "evaluation").glob("*-test-*")
            records[processes] = json.loads((kept / "record.json").read_text())
            arrays[processes] = np.load(kept / "per_example.npy")
        torchrun(2, [*command, "evaluate", str(folder / "run-2"), "--split", "test"])
        (kept,) = (folder / "run-2" / "evaluation").glob("*-test-*")
        other = json.loads((kept / "record.json").read_text())
    return {
        "steps": len(nats[1]),
        "loss_nats_first_and_last": [float(nats[1][0]), float(nats[1][-1])],
        "largest_difference_of_loss_nats": float(np.abs(nats[1] - nats[2]).max()),
        "bits_per_dim_of_one_run_with_1_2_3_processes": [records[n]["bits_per_dim"] for n in (1, 2, 3)],
        "largest_difference_of_a_datum_nats": max(float(np.abs(arrays[1] - arrays[n]).max()) for n in (2, 3)),
        "data_scored": [len(arrays[n]) for n in (1, 2, 3)],
        "bits_per_dim_trained_and_evaluated_with_2": other["bits_per_dim"],
    }


def noise(shape: tuple[int, int, int], count: int) -> DataSet:
    x = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)
    return DataSet("noise", Space.image(*shape), {"train": Split(x), "validation": Split(x[:2])})


def loop_of(recipe: Recipe, data: DataSet, folder: str, execution: Execution) -> Loop:
    loop = Loop(
        recipe, data, Path(folder), torch.device("cpu"), Talk(1, False), ("v", data.split("validation")), execution
    )
    loop.begin(None)
    return loop


def time_steps(rounds: int, steps: int) -> None:
    """In each process: seconds of `steps` steps, `rounds` times."""
    training = {"steps": 10**6, "batch_size": 32, "ema_decay": 0.999, "clip_norm": 1.0}
    fields = {"name": "t", "data": {"name": "noise"}, "model": {"system": "pixelcnn_pp", "options": SMALL}}
    recipe = parse_recipe({**fields, "training": training})
    with distributed.job(), tempfile.TemporaryDirectory() as folder:
        loop = loop_of(recipe, noise((3, 32, 32), 256), folder, Execution())
        with closing(loop):
            seconds = []
            for loop.step in range(1, 3 + rounds * steps):
                if loop.step >= 3 and (loop.step - 3) % steps == 0:
                    distributed.barrier()
                    start = time.perf_counter()
                loop._train_step()
                if loop.step >= 3 and (loop.step - 2) % steps == 0:
                    seconds.append((time.perf_counter() - start) / steps)
        if distributed.is_first():
            print(json.dumps(seconds))


def throughput(rounds: int) -> dict[str, Any]:
    """One and two processes of one thread, in turns, since other work on the machine comes and goes."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for processes in (1, 2):
            seconds[processes] += json.loads(torchrun(processes, [__file__, "time-steps"]))
    medians = {processes: statistics.median(values) for processes, values in seconds.items()}
    return {
        "model": SMALL,
        "batch": [32, 3, 32, 32],
        "seconds_a_step": {str(n): round(value, 4) for n, value in medians.items()},
        "fastest_seconds_a_step": {str(n): round(min(values), 4) for n, values in seconds.items()},
        "ratio_of_two_processes_to_one": round(medians[1] / medians[2], 3),
        "ratio_of_the_fastest": round(min(seconds[1]) / min(seconds[2]), 3),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
    }


def live_bytes(loop: Loop) -> dict[str, int]:
    """Bytes of parameters (gathered ones too), gradients and optimizer state that this process holds."""
    tensors = {"parameters": [distributed.local(p) for p in loop.model.parameters()], "gradients": [], "optimizer": []}
    tensors["gradients"] = [distributed.local(p.grad) for p in loop.model.parameters() if p.grad is not None]
    tensors["optimizer"] = [distributed.local(t) for t in loop.optimizer.tensors().values()]
    return {name: sum(t.numel() * t.element_size() for t in parts) for name, parts in tensors.items()}


def watch_memory(sharding: str) -> None:
    """In each process: three steps of the large model."""
    training = {"steps": 10**6, "batch_size": 2, "clip_norm": 1.0}
    fields = {"name": "m", "data": {"name": "noise"}, "model": {"system": "pixelcnn_pp", "options": LARGE}}
    recipe = parse_recipe({**fields, "training": training})
    with distributed.job(), tempfile.TemporaryDirectory() as folder:
        data = noise((3, 8, 8), 8)
        before = peak_memory_mib() or 0.0
        loop = loop_of(recipe, data, folder, Execution(sharding))  # type: ignore[arg-type]
        built = peak_memory_mib() or 0.0
        peak: dict[str, int] = {}
        step = loop.optimizer.step

        def watched(rate: float) -> None:
            # Gradients are alive here, and from the second step on the moments too: the peak of the states.
            peak.update({name: max(peak.get(name, 0), value) for name, value in live_bytes(loop).items()})
            step(rate)
            peak.update({name: max(peak.get(name, 0), value) for name, value in live_bytes(loop).items()})

        loop.optimizer.step = watched  # type: ignore[method-assign]
        gathered = {"now": 0, "peak": 0}
        if sharding == "fsdp":
            watch_gathered(loop, gathered)
        with closing(loop):
            for loop.step in (1, 2, 3):
                loop._train_step()
        peak["gathered_weights"] = gathered["peak"]
        count = num_parameters(loop.model)
        found = {"parameters_in_all": count, **peak, "states": sum(peak.values()),
                 "resident_mib_before": before, "resident_mib_built": built, "resident_mib_peak": peak_memory_mib()}  # fmt: skip
        rows = distributed.gather_bytes([json.dumps(found).encode()])
        if distributed.is_first():
            print(json.dumps([json.loads(row) for row in rows]))


def watch_gathered(loop: Loop, gathered: dict[str, int]) -> None:
    """Count the whole weights that FSDP2 holds at once, at the moments when a block's are gathered."""
    from torch.distributed.fsdp import FSDPModule

    modules = [module for module in loop.engine.root.modules() if isinstance(module, FSDPModule)]

    def count(*_: Any) -> None:
        alive = 0
        for module in modules:
            group = module._get_fsdp_state()._fsdp_param_group
            for p in group.fsdp_params if group is not None else []:
                whole = getattr(p, "_unsharded_param", None)
                if whole is not None and whole.untyped_storage().size():
                    alive += whole.numel() * whole.element_size()
        gathered["peak"] = max(gathered["peak"], alive)

    for module in modules:
        module.register_forward_hook(count)
        module.register_full_backward_pre_hook(count)
        for child in module.modules():
            child.register_forward_pre_hook(count)


def memory() -> dict[str, Any]:
    """Per-process memory of DDP and FSDP2, two processes."""
    rows = {sharding: json.loads(torchrun(2, [__file__, "watch-memory", sharding])) for sharding in ("ddp", "fsdp")}
    worst = {sharding: max(row["states"] for row in of) for sharding, of in rows.items()}
    resident = {k: max(r["resident_mib_peak"] - r["resident_mib_before"] for r in of) for k, of in rows.items()}
    return {
        "model": LARGE,
        "parameters": rows["ddp"][0]["parameters_in_all"],
        "processes": 2,
        "bytes_a_process": rows,
        "ratio_of_states": round(worst["fsdp"] / worst["ddp"], 4),
        "resident_mib_above_start": resident,
        "ratio_of_resident": round(resident["fsdp"] / resident["ddp"], 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("losses", "throughput", "memory")
    parser.add_argument("part", nargs="?", choices=[*parts, "time-steps", "watch-memory"])
    parser.add_argument("sharding", nargs="?", default="ddp")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "distributed.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.part == "time-steps":
        time_steps(3, 5)
        return
    if arguments.part == "watch-memory":
        watch_memory(arguments.sharding)
        return
    results = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    for part in parts if arguments.part is None else (arguments.part,):
        results[part] = {"losses": losses, "throughput": lambda: throughput(arguments.rounds), "memory": memory}[part]()
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")
        print(json.dumps(results[part]))


if __name__ == "__main__":
    main()
