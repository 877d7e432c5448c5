"""The seal of the test split: every evaluation on test data is counted in its run."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path


def count_test_evaluations(run: Path) -> int:
    """How often the run in this folder was evaluated on test data so far."""
    log = _test_log(run)
    return len(log.read_bytes().splitlines()) if log.is_file() else 0


def log_test_evaluation(run: Path, data: str, samples: int, seed: int) -> int:
    """Add a line to the log of test evaluations; returns their number.

    A line is appended in one write, which processes cannot lose to each other, and before the data are scored: an
    evaluation that is killed counts.
    """
    log = _test_log(run)
    log.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"time": time.time(), "data": data, "samples": samples, "seed": seed}) + "\n"
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return count_test_evaluations(run)


def _test_log(run: Path) -> Path:
    return run / "evaluation" / "test_evaluations.jsonl"
