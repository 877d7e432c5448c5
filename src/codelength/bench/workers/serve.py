"""The other end of `codelength.bench.peers`: a process that prepares a task once and runs it when told.

Lines of JSON on stdin, answered on stdout: {"do": "prepare", ...} by whatever the task reports, {"do": "run"} by the
CPU-seconds and wall seconds of one run. It runs in the peer's environment, so it imports nothing of codelength.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any


class Stopwatch:
    """Sums the time inside of its `with` blocks."""

    def __init__(self) -> None:
        self.times = {"cpu": 0.0, "wall": 0.0}

    def __enter__(self) -> None:
        self._start = time.process_time(), time.perf_counter()

    def __exit__(self, *_: object) -> None:
        cpu, wall = self._start
        self.times["cpu"] += time.process_time() - cpu
        self.times["wall"] += time.perf_counter() - wall


def serve(prepare: Callable[[dict[str, Any]], tuple[Callable[[], Any], dict[str, Any]]]) -> None:
    """Answer until stdin ends.

    Args:
        prepare: Takes the options; returns the work of a run and what to report of it. Work that times only a part of
            itself returns its times.
    """
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not land among the answers
    work: Callable[[], Any] | None = None
    for line in sys.stdin:
        request = json.loads(line)
        if request.pop("do") == "prepare":
            work, answer = prepare(request)
        else:
            assert work is not None
            cpu, wall = time.process_time(), time.perf_counter()
            own = work()
            answer = own or {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
