"""The other end of `codelength.bench.peers`: a process that prepares a task once and runs it when told.

Lines of JSON on stdin, answered on stdout: {"do": "prepare", ...} by whatever the task reports, {"do": "run"} by the
CPU-seconds and wall seconds of one run. It runs in the peer's environment, so it imports nothing of codelength.
"""

from __future__ import annotations

import json
import os
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


def flow_steps(
    flow: Any, log_prob: Callable[[Any], Any], options: dict[str, Any]
) -> tuple[Callable[[], Any], dict[str, Any]]:
    """Training steps of a flow over vectors of bytes, in [0, 1) with uniform noise.

    Args:
        flow: Its weights are moved by noise, so that no layer is the identity, and written to the options' file.
        log_prob: Of vectors, (B, D).
        options: "file" (.npz with x, bytes, and y, x with noise; weights and log densities of y go there), "batch", "steps".
    """
    import numpy as np
    import torch

    stored = np.load(options["file"])
    x, y = torch.from_numpy(stored["x"]), torch.from_numpy(stored["y"])
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
        scores = log_prob(y / 256).numpy()
    weights: dict[str, Any] = {name: parameter.detach().numpy() for name, parameter in flow.named_parameters()}
    np.savez(options["file"], scores=scores, **weights)
    optimizer = torch.optim.AdamW(flow.parameters(), lr=1e-3)
    batch = options["batch"]

    def work() -> None:
        for _ in range(options["steps"]):
            chosen = x[torch.randint(len(x), (batch,))]
            loss = -log_prob((chosen + torch.rand(chosen.shape)) / 256).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
            optimizer.step()
            assert torch.isfinite(loss)

    return work, {}


def serve(prepare: Callable[[dict[str, Any]], tuple[Callable[[], Any], dict[str, Any]]]) -> None:
    """Answer until stdin ends.

    Args:
        prepare: Takes the options; returns the work of a run and what to report of it. Work that times only a part of
            itself returns its times.
    """
    # What libraries and their compilers print must not land among the answers.
    answers, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr
    os.dup2(2, 1)
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
