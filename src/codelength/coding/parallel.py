"""Independent pieces of work on all cores, results in order: chunks and lanes are coded so.

Threads, not processes: PyTorch and zlib let go of the interpreter while they compute, and one copy of the model serves all. Each thread computes
with one thread of arithmetic, so n workers use n cores. What is coded does not depend on their number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def default_workers() -> int:
    """Workers where none are asked for: PyTorch's number of threads, which OMP_NUM_THREADS sets."""
    return torch.get_num_threads()


def in_order(function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None) -> Iterator[Result]:
    """function(item) of each item, in order; at most `workers` + 1 items are held at a time.

    Args:
        function: Safe to run in several threads at once.
        items: Drawn as they are needed.
        workers: Threads; `default_workers()` without it. With one, everything runs here.

    Raises:
        ValueError: No worker.

    >>> list(in_order(lambda n: n * n, range(5), workers=2))
    [0, 1, 4, 9, 16]
    """
    count = default_workers() if workers is None else workers
    if count < 1:
        raise ValueError(f"in_order: {count} workers; wanted at least 1")
    if count == 1:
        yield from map(function, items)
        return
    threads = torch.get_num_threads()
    waiting: deque[Future[Result]] = deque()
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            try:
                for item in items:
                    waiting.append(pool.submit(function, item))
                    if len(waiting) > count:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
    finally:
        torch.set_num_threads(threads)
