"""Parts in processes of their own, a few at a time, each with one thread.

Two trainings side by side with one thread each use two cores better than one training with two threads, and what one
thread computes is the same on every machine of a kind, however many cores it has.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from codelength.demo.plan import Part
from codelength.errors import CodelengthError
from codelength.run import read_metrics

POLL_SECONDS = 0.2
SECONDS_BETWEEN_LINES = 20.0
THREADS = 1


class PartError(CodelengthError):
    """A part of the demo failed."""


def run_parts(parts: Sequence[Part], jobs: int, say: Callable[[str], None]) -> None:
    """Do all parts, `jobs` at a time, in their order.

    Raises:
        PartError: One failed; the others in work are stopped and keep what they finished.
    """
    waiting = list(parts)
    working: dict[str, tuple[Part, subprocess.Popen[bytes]]] = {}
    last = time.monotonic()
    try:
        while waiting or working:
            while waiting and len(working) < jobs:
                part = waiting.pop(0)
                working[part.name] = (part, start(part))
            time.sleep(POLL_SECONDS)
            for name, (_, process) in list(working.items()):
                if process.poll() is not None:
                    del working[name]
                    if process.returncode:
                        raise PartError(
                            f"{name} failed with exit code {process.returncode}, see above; what is finished is kept: mend "
                            "the cause and run the demo again"
                        )
            if time.monotonic() - last > SECONDS_BETWEEN_LINES and working:
                last = time.monotonic()
                say(" | ".join(where(part) for part, _ in working.values()) + f" | {len(waiting)} parts wait")
    finally:
        stop([process for _, process in working.values()])


def start(part: Part) -> subprocess.Popen[bytes]:
    """The process of a part; it talks on our stderr."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "MKL_NUM_THREADS": str(THREADS)}
    command = [sys.executable, "-m", "codelength.demo.work", part.to_json(), str(THREADS)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


def stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End processes that still run."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def where(part: Part) -> str:
    """Where a part is, from its log: "mnist5k made: step 200 of 700, 1.234 bits/dim"."""
    path = part.folder / "metrics.jsonl"
    try:
        lines = read_metrics(path) if path.is_file() else []
    except CodelengthError:  # its last line is being written
        return f"{part.name}: training"
    if not lines:
        return f"{part.name}: starting"
    line, steps = lines[-1], part.load_recipe().training.steps
    if line["split"] == "end":
        measured = any((part.folder / "evaluation").glob("*/record.json"))
        return f"{part.name}: " + ("coding and decoding" if measured else "measuring on test data")
    return f"{part.name}: step {line['step']} of {steps}, {line['split']} {line['bits_per_dim']:.3f} bits/dim"
