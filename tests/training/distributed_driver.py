"""Trains and evaluates with 1, 2 and 3 processes; run by test_distributed.py in a process of its own.

Imports are done once and each process of a job is a fork.
"""

import importlib.util
import json
import os
import socket
import sys
import traceback
from pathlib import Path

import numpy as np
import torch

from codelength import distributed
from codelength.cli.main import main as cli
from codelength.data import load_data
from codelength.evaluation import evaluate_run
from codelength.models import registry
from codelength.recipe import parse_recipe
from codelength.run import load_run
from codelength.training import Execution, train
from codelength.training.loop import Loop

SYSTEMS = {
    "pixelcnn_pp": {"filters": 8, "blocks": 1, "stages": 2, "dropout": 0.3},
    "vae": {"latents": 4, "filters": 8, "downsamplings": 1, "samples": 3},
    "causal_window": {"width": 16, "layers": 1, "head_width": 16, "rows": 2, "reach": 2},
    "realnvp": {"scales": 1, "filters": 8, "blocks": 1},
    "made": {"hidden": [32], "dropout": 0.2},
}


def recipe(system, options=None, **training):
    defaults = {
        "steps": 6, "batch_size": 20, "learning_rate": 0.003, "clip_norm": 50.0, "weight_decay": 0.01,
        "ema_decay": 0.9, "validate_every": 3, "validation_examples": 25, "checkpoint_every": 3, "horizontal_flip": True,
    }  # fmt: skip
    model = {"system": system, "options": SYSTEMS[system] if options is None else options}
    fields = {"name": "digits", "data": {"name": "digits"}, "model": model, "training": {**defaults, **training}}
    return parse_recipe(fields)


def job(processes, work, *, allowed=(0,)):
    """Run `work` in so many processes; the exit status of the first that is not allowed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(processes):
        child = os.fork()
        if child == 0:
            job_variables = {"RANK": rank, "WORLD_SIZE": processes, "LOCAL_RANK": rank, "MASTER_PORT": port}
            os.environ.update({name: str(value) for name, value in job_variables.items()}, MASTER_ADDR="127.0.0.1")
            try:
                with distributed.job():
                    work()
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert all(code in allowed for code in codes), codes


def trained(folder, name, chosen, processes=1, execution=None, **options):
    def work():
        train(chosen, folder / name, progress=False, device="cpu", execution=execution, **options)

    job(processes, work)


def evaluated(folder, name, processes):
    run = load_run(folder / name)
    data = load_data("digits")

    def work():
        evaluation = evaluate_run(run, data=data, split="test", batch_size=40)
        if distributed.is_first():
            evaluation.save(folder / f"record-{name}-{processes}")

    job(processes, work)


def drawn_and_coded(folder, name, processes, mark, share=distributed.share):
    """Samples and a file of the run, by the command line in so many processes."""

    def work():
        distributed.share = share
        run, out = str(folder / name), folder / f"{name}-{mark}"
        commands = (
            ["sample", run, "-n", "150", "--seed", "3", "-o", f"{out}.png"],
            ["compress", run, "data:digits:test", "-o", f"{out}.clen", "--chunk", "40", "--no-verify"],
        )
        for command in commands:
            assert cli(command) == 0, command

    job(processes, work)


def backwards(count, part=None, parts=None):
    """A wrong cut: the first process takes the last part."""
    parts = distributed.size() if parts is None else parts
    part = distributed.rank() if part is None else part
    return SHARE(count, parts - 1 - part, parts)


SHARE = distributed.share


def gathered(folder):
    """Every process contributes arrays of its own length, one none at all."""

    def work():
        rank = distributed.rank()
        values = distributed.gather(np.full(rank, rank, dtype=np.float64))
        parts = distributed.gather_bytes([bytes([rank]) * k for k in range(rank)])
        total = float(distributed.total(torch.tensor(rank + 1.0)))
        if distributed.is_first():
            found = {"values": values.tolist(), "parts": [part.hex() for part in parts], "total": total}
            (folder / "gathered.json").write_text(json.dumps(found))

    job(3, work)


def main(folder, toys, part):
    spec = importlib.util.spec_from_file_location("codelength_toys", toys)
    module = importlib.util.module_from_spec(spec)
    sys.modules["codelength_toys"] = module
    spec.loader.exec_module(module)
    module.register(registry.SYSTEMS, "codelength_toys")
    fsdp, chosen = Execution("fsdp"), recipe("pixelcnn_pp")
    if part == "quick":
        gathered(folder)
        trained(folder, "pixelcnn_pp-1", chosen)
        trained(folder, "pixelcnn_pp-3", chosen, 3)
        trained(folder, "pixelcnn_pp-fsdp", chosen, 2, fsdp)
        for processes in (1, 2, 3):
            evaluated(folder, "pixelcnn_pp-1", processes)
            drawn_and_coded(folder, "pixelcnn_pp-1", processes, processes)
        drawn_and_coded(folder, "pixelcnn_pp-1", 3, "backwards", backwards)
        return
    for system in SYSTEMS:
        for processes in (1, 2):
            trained(folder, f"{system}-{processes}", recipe(system), processes)
    trained(folder, "pixelcnn_pp-parts", chosen, 2, Execution(accumulate=2))
    trained(folder, "pixelcnn_pp-recompute", chosen, 1, Execution(recompute=True))
    trained(folder, "pixelcnn_pp-fsdp-parts-recompute", chosen, 2, Execution("fsdp", 2, True))
    resumed(folder, "pixelcnn_pp-to-fsdp", chosen, (3, None), (2, fsdp))
    resumed(folder, "pixelcnn_pp-from-fsdp", chosen, (3, fsdp), (1, None))
    for processes in (1, 3):
        evaluated(folder, "vae-1", processes)


def resumed(folder, name, chosen, first, then):
    """Train until step 4 with one number of processes, and from the checkpoint of step 3 on with another."""

    def stopped():
        run = Loop.run

        def until_four(loop):
            loop.talk.step = lambda step, *_: os._exit(7) if step == 4 else None
            run(loop)

        Loop.run = until_four
        train(chosen, folder / name, progress=False, device="cpu", execution=first[1])

    job(first[0], stopped, allowed=(7, 1))
    assert (folder / name / "state" / "step-00000003").is_dir()
    trained(folder, name, chosen, then[0], then[1], resume=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
