"""Blocks of a data set through Ray Data: each computed by some worker, retried if that dies, counted exactly once.

What travels is small: the first and last index of a block to a worker, its result back. A worker opens the data by their
name and reads its own blocks, so the data never pass through the driver.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch

from codelength.errors import CodelengthError, EvaluationError

Progress = Callable[[int, int], None]


class Worker(Protocol):
    """Computes blocks in a process of its own; made there from plain arguments."""

    def block(self, start: int, stop: int) -> bytes:
        """The result of data start ... stop − 1."""
        ...


def blocks_of(count: int, size: int) -> list[tuple[int, int]]:
    """Data 0 ... count − 1 in blocks of `size`, the last one shorter.

    >>> blocks_of(5, 2)
    [(0, 2), (2, 4), (4, 5)]
    """
    return [(start, min(start + size, count)) for start in range(0, count, size)]


class _Caller:
    """What Ray Data makes in each of its workers."""

    def __init__(self, make: Callable[..., Worker], arguments: Mapping[str, Any], threads: int, folder: str) -> None:
        if os.path.isdir(folder):
            os.chdir(folder)  # relative paths are those of the driver
        torch.set_num_threads(threads)  # as many as here: sums of floats then round alike
        self.worker = make(**arguments)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        start, stop = int(row["start"]), int(row["stop"])
        try:
            result, error = self.worker.block(start, stop), ""
        except CodelengthError as failure:  # of the data or the model: another attempt would end alike
            result, error = b"", f"{type(failure).__name__}: {failure}"
        return {"start": start, "stop": stop, "result": result, "error": error}


def connect() -> Any:
    """Ray, connected to the cluster of RAY_ADDRESS, or to one of this machine's cores that is started here.

    Raises:
        UsageError: Ray is not installed.
    """
    from codelength.data.addresses import require

    require("ray", "ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import logging

    import ray

    if not ray.is_initialized():
        here = {} if "RAY_ADDRESS" in os.environ else {"include_dashboard": False}
        ray.init(logging_level=logging.ERROR, log_to_driver=False, **here)
    return ray


def run_blocks(
    make: Callable[..., Worker],
    arguments: Mapping[str, Any],
    blocks: Sequence[tuple[int, int]],
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Iterator[bytes]:
    """The results of the blocks, in their order.

    Args:
        make: Makes a worker from `arguments`; importable on every node.
        arguments: Plain values, the same for every worker: paths and names that mean the same everywhere.
        blocks: (start, stop) of each; they follow one another.
        workers: Processes; by default one a CPU of the cluster, at most one a block.
        progress: Called with (data done, data in all).

    Raises:
        UsageError: Ray is not installed.
        EvaluationError: A block failed with an error of ours, or the results are not one for each block.
    """
    ray = connect()
    from ray.data import ActorPoolStrategy, DataContext, from_items

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.verbose_progress = False
    count = min(len(blocks), workers or max(1, int(ray.cluster_resources().get("CPU", 1))))
    rows = from_items([{"start": a, "stop": b} for a, b in blocks], override_num_blocks=len(blocks))
    results = rows.map(
        _Caller,
        fn_constructor_args=(make, dict(arguments), torch.get_num_threads(), os.getcwd()),
        compute=ActorPoolStrategy(size=count),
        num_cpus=1,
        # A worker that dies is started again, and so is the block that it had.
        max_restarts=-1,
        max_task_retries=-1,
    )
    waiting: dict[int, tuple[int, bytes]] = {}
    done, place, total = 0, 0, blocks[-1][1] if blocks else 0
    for row in results.iter_rows():
        start, stop = int(row["start"]), int(row["stop"])
        if row["error"]:
            raise EvaluationError(f"data {start}..{stop - 1}: {row['error']}")
        if start in waiting or start < place:
            raise EvaluationError(f"data {start}..{stop - 1} came back twice; nothing was kept. Please report this")
        waiting[start] = (stop, row["result"])
        done += stop - start
        if progress is not None:
            progress(done, total)
        while place in waiting:
            place, result = waiting.pop(place)
            yield result
    if waiting or place != total:
        raise EvaluationError(f"results end at datum {place} of {total}; nothing was kept. Please report this")
