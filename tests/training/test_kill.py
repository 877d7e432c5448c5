"""A run killed by SIGKILL at any moment, and resumed, is bit for bit the run that was never killed."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TIMES = ("seconds", "cpu_seconds", "images_per_second", "peak_memory_mib")


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kill")
    command = [sys.executable, str(HERE / "kill_driver.py"), str(folder), str(HERE / "toys.py")]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder, [line.split() for line in done.stdout.splitlines()]


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def content(run):
    """Everything but the times: weights, records, and the state of weights, average and optimizer."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    metrics = [{key: value for key, value in line.items() if key not in TIMES} for line in lines]
    state = {path.name: sha256(path) for path in run.glob("state/step-*/*.safetensors")}
    return {
        "weights": sha256(run / "model.safetensors"),
        "record": (run / "weights.json").read_text(),
        **state,
    }, metrics


def test_ten_instants(killed):
    folder, _ = killed
    reference, metrics = content(folder / "reference")
    assert len(reference) == 5
    assert [line["step"] for line in metrics if line["split"] == "train"] == list(range(1, 41))
    runs = sorted(folder.glob("killed-*"))
    assert len(runs) == 10
    for run in runs:
        assert content(run) == (reference, metrics), run.name


def test_the_processes_were_killed_and_one_in_the_middle_of_a_checkpoint(killed):
    _, lines = killed
    steps = [int(line[1]) for line in lines if line[0] == "killed"]
    assert len(steps) == 9
    assert len(set(steps)) >= 3
    (left,) = (line[1].split(",") for line in lines if line[0] == "left")
    assert "step-00000020" in left
    assert any(name.startswith(".step-00000025") for name in left)


def test_control_another_seed_differs(killed):
    folder, _ = killed
    reference, metrics = content(folder / "reference")
    other, other_metrics = content(folder / "other-seed")
    assert other["weights"] != reference["weights"]
    assert other_metrics != metrics
