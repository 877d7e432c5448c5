"""A worker that torchrun runs is killed: the job starts again from its checkpoint and ends as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

RECIPE = """
name: killed
data: {name: digits}
model: {system: made, options: {hidden: [64], dropout: 0.2}}
training: {steps: 1200, batch_size: 40, learning_rate: 0.003, ema_decay: 0.99, validate_every: 300, checkpoint_every: 100}
"""


@pytest.fixture
def start():
    """start(folder, name, *options): a job of two processes; what still runs at the end is stopped, workers included."""
    jobs = []

    def begin(*arguments):
        jobs.append(_start(*arguments))
        return jobs[-1]

    yield begin
    for job in jobs:
        if job.poll() is None:
            job.terminate()
            job.wait(timeout=60)


def _start(folder, name, *more):
    agent = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--max-restarts",
        "4",
        "--standalone",
    ]
    command = [
        "-m",
        "codelength.cli.main",
        "train",
        str(folder / "killed.yaml"),
        "--out",
        str(folder / name),
        "--resume",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / f"{name}.log").open("w") as output:
        return subprocess.Popen([*agent, *command, *more], env=environment, stdout=output, stderr=output)


def workers(agent):
    """Process ids of the agent's two workers, rank 0 first."""
    found = {}
    for line in subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(agent)], capture_output=True, text=True
    ).stdout.split():
        environment = Path(f"/proc/{line}/environ").read_text().split("\0")
        rank = [item.removeprefix("RANK=") for item in environment if item.startswith("RANK=")]
        if rank:
            found[int(rank[0])] = int(line)
    return [found[rank] for rank in sorted(found)]


def wait_for(folder, text, process):
    for _ in range(3000):
        if list((folder / "state").glob(text)) if folder.is_dir() else False:
            return
        assert process.poll() is None, "the job ended before it could be killed"
        time.sleep(0.05)
    raise AssertionError("no checkpoint came")


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds workers in /proc")
@pytest.mark.parametrize("shard", ["ddp", "fsdp"])
def test_a_killed_worker(tmp_path, start, shard):
    (tmp_path / "killed.yaml").write_text(RECIPE)
    undisturbed = start(tmp_path, "undisturbed", "--shard", shard)
    assert undisturbed.wait(timeout=300) == 0, (tmp_path / "undisturbed.log").read_text()
    job = start(tmp_path, "killed", "--shard", shard)
    wait_for(tmp_path / "killed", "step-00000[1-9]00", job)
    os.kill(workers(job.pid)[1], signal.SIGKILL)
    assert job.wait(timeout=400) == 0, (tmp_path / "killed.log").read_text()
    assert "SIGKILL" in (tmp_path / "killed.log").read_text() or "exitcode: -9" in (tmp_path / "killed.log").read_text()
    runs = [tmp_path / name for name in ("undisturbed", "killed")]
    weights = [load_file(run / "model.safetensors") for run in runs]
    for name in weights[0]:
        np.testing.assert_array_equal(weights[0][name], weights[1][name], err_msg=name)
    times = ("seconds", "cpu_seconds", "images_per_second", "peak_memory_mib")
    lines = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in runs]
    assert [[{k: v for k, v in line.items() if k not in times} for line in of_run] for of_run in lines[:1]] == [
        [{k: v for k, v in line.items() if k not in times} for line in of_run] for of_run in lines[1:]
    ]
