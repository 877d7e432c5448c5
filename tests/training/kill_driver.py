"""Trains on `digits`, kills the process at random instants, resumes; run by test_kill.py in a process of its own.

Imports are done once and each training runs in a fork, so that ten kills take seconds.
"""

import importlib.util
import os
import random
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

from codelength.models import registry
from codelength.recipe import parse_recipe
from codelength.training import checkpoint, train


def recipe(seed):
    training = {
        "steps": 40,
        "batch_size": 16,
        "learning_rate": 0.01,
        "warmup_steps": 5,
        "clip_norm": 50.0,
        "weight_decay": 0.01,
        "ema_decay": 0.9,
        "validate_every": 10,
        "validation_examples": 20,
        "checkpoint_every": 5,
        "horizontal_flip": True,
        "seed": seed,
    }
    fields = {"name": "kill", "data": {"name": "digits"}, "model": {"system": "toy_vae"}, "training": training}
    return parse_recipe(fields)


def run(folder, *, seed=0, kill_after=None, kill_in_write=None):
    """Train, or go on, in a fork; returns its exit status, negative if it was killed."""
    child = os.fork()
    if child == 0:
        try:
            if kill_in_write is not None:
                die_in_write(kill_in_write)
            train(recipe(seed), folder, resume=True, progress=False, device="cpu")
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die_in_write(call):
    """Die half-way through the file number `call` that a checkpoint writes."""
    write, calls = checkpoint._write, []

    def half(path, content):
        calls.append(path)
        if len(calls) < call:
            return write(path, content)
        path.write_bytes(content[: len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
        return ""

    checkpoint._write = half


def step_of(path):
    """The last step that a run logged."""
    metrics = path / "metrics.jsonl"
    return metrics.read_text().count('"train"') if metrics.is_file() else 0


def main(folder, toys):
    spec = importlib.util.spec_from_file_location("codelength_toys", toys)
    module = importlib.util.module_from_spec(spec)
    sys.modules["codelength_toys"] = module
    spec.loader.exec_module(module)
    module.register(registry.SYSTEMS, "codelength_toys")
    train(recipe(1), folder / "other-seed", progress=False, device="cpu")  # and loads what is loaded when first used

    start = time.monotonic()
    assert run(folder / "reference") == 0
    seconds = time.monotonic() - start
    instants = random.Random(0)
    for index in range(9):
        path, wait = folder / f"killed-{index}", instants.uniform(0.02, 0.9) * seconds
        while run(path, kill_after=wait) != -signal.SIGKILL:  # it was done before: the machine is less busy now
            shutil.rmtree(path)
            wait /= 2
        print("killed", step_of(path))
        if index % 4 == 0:  # once more while it goes on
            run(path, kill_after=wait / 2)
        assert run(path) == 0
    assert run(folder / "killed-in-write", kill_in_write=4 * 4 + 3) == -signal.SIGKILL
    print("left", ",".join(sorted(path.name for path in (folder / "killed-in-write" / "state").iterdir())))
    assert run(folder / "killed-in-write") == 0


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
