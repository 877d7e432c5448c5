"""Alternating runs, medians and ratios with their spread, and what they ran on."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Times = dict[str, float]
"""CPU-seconds and wall seconds of one run, keys "cpu" and "wall"."""

Runner = Callable[[], Times]


def cpu_seconds() -> float:
    """Of this process and of its workers that have ended (`coding.parallel`)."""
    return sum(os.times()[:4])


def timed(work: Callable[[], Any]) -> Times:
    """CPU-seconds of this process, and wall seconds, of one call."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


def timed_child(command: Sequence[str]) -> Times:
    """CPU-seconds and wall seconds of a process from its start to its end; what it prints goes nowhere."""
    cpu, wall = sum(os.times()[2:4]), time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return {"cpu": sum(os.times()[2:4]) - cpu, "wall": time.perf_counter() - wall}


@dataclass(frozen=True)
class Contest:
    """A task made ready.

    Args:
        what: The work of one run, in words.
        ours, theirs: Run it once.
        theirs_name: Who they are.
        parity: Checks that both do the same, name -> figure; what was compared, and how far apart they are.
        passed: Whether parity and audit hold: without them the ratio does not count.
        wanted: The ratio the project asks of itself.
        facts: Further figures for the record.
        close: Ends processes, called after the last run.
    """

    what: str
    ours: Runner
    theirs: Runner
    theirs_name: str
    parity: Mapping[str, Any]
    passed: bool
    wanted: float
    facts: Mapping[str, Any] = field(default_factory=dict)
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Result:
    """What a task showed; fields as in the record."""

    task: str
    what: str
    theirs: str
    wanted: float
    ratio: Mapping[str, float]
    wall_ratio: Mapping[str, float]
    ours_seconds: Mapping[str, float]
    theirs_seconds: Mapping[str, float]
    rounds: int
    parity: Mapping[str, Any]
    passed: bool
    facts: Mapping[str, Any]

    @property
    def reached(self) -> bool:
        """Whether the ratio counts and is what is wanted."""
        return self.passed and self.ratio["median"] >= self.wanted


def alternate(ours: Runner, theirs: Runner, rounds: int, warm_up: int = 1) -> tuple[list[Times], list[Times]]:
    """Run both in turn, each first in every other round: a slow moment of the machine then meets both."""
    results: tuple[list[Times], list[Times]] = ([], [])
    for number in range(warm_up + rounds):
        order = ((0, ours), (1, theirs)) if number % 2 == 0 else ((1, theirs), (0, ours))
        for index, run in order:
            times = run()
            if number >= warm_up:
                results[index].append(times)
    return results


def summarize(values: Sequence[float]) -> dict[str, float]:
    """Median, quartiles and extremes.

    >>> summarize([3.0, 1.0, 2.0, 5.0, 4.0])
    {'median': 3.0, 'lower_quartile': 2.0, 'upper_quartile': 4.0, 'least': 1.0, 'most': 5.0}
    """
    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    figures = (statistics.median(values), low, high, min(values), max(values))
    names = ("median", "lower_quartile", "upper_quartile", "least", "most")
    return {name: float(f"{figure:.5g}") for name, figure in zip(names, figures, strict=True)}


def compete(task: str, contest: Contest, rounds: int) -> Result:
    """Run a contest: times and ratios theirs / ours, round by round."""
    try:
        ours, theirs = alternate(contest.ours, contest.theirs, rounds)
    finally:
        contest.close()
    ratios = {
        clock: summarize([b[clock] / a[clock] for a, b in zip(ours, theirs, strict=True)]) for clock in ("cpu", "wall")
    }
    return Result(
        task=task,
        what=contest.what,
        theirs=contest.theirs_name,
        wanted=contest.wanted,
        ratio=ratios["cpu"],
        wall_ratio=ratios["wall"],
        ours_seconds=summarize([times["cpu"] for times in ours]),
        theirs_seconds=summarize([times["cpu"] for times in theirs]),
        rounds=rounds,
        parity=dict(contest.parity),
        passed=contest.passed,
        facts=dict(contest.facts),
    )


def machine() -> dict[str, Any]:
    """What the times were taken on."""
    import numpy
    import torch

    from codelength import __version__, native

    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "kernels": native.state() if native.missing() else "compiled",
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "codelength": __version__,
    }


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
