"""Independent pieces of work on all cores, results in order: chunks and lanes are coded so.

Processes where they can be forked, else threads. A codec's wavefronts are small tensors, hundreds of operations each, and
threads wait for each other's interpreter between any two of them. A forked process has the model already. What is coded does not depend on the number of workers.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_function: Callable[[Any], Any] | None = None
"""What a forked worker computes; set in it alone."""


def default_workers() -> int:
    """Workers where none are asked for: PyTorch's number of threads, which OMP_NUM_THREADS sets."""
    return torch.get_num_threads()


def can_fork() -> bool:
    """Whether work may go to forked processes: on Linux, from the main thread, before a GPU is in use.

    Another thread may hold locks that a fork would copy locked; CUDA does not survive a fork; elsewhere than on Linux system libraries do not.
    """
    return (
        sys.platform == "linux"
        and threading.current_thread() is threading.main_thread()
        and not torch.cuda.is_initialized()
    )


def in_order(function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None) -> Iterator[Result]:
    """function(item) of each item, in order; at most `workers` + 1 items are held at a time.

    Args:
        function: Safe to run in several threads or processes at once; what it changes may be lost, only its result comes back.
        items: Drawn as they are needed; they and the results can be pickled.
        workers: Processes or threads, each with one thread of arithmetic; `default_workers()` without it. With one,
            everything runs here.

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
    pool, task = _pool(function, count)
    try:
        with pool:
            try:
                for item in items:
                    waiting.append(pool.submit(task, item))
                    if len(waiting) > count:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
    finally:
        torch.set_num_threads(threads)


def _pool(function: Callable[[Item], Result], count: int) -> tuple[Executor, Callable[[Item], Result]]:
    """Workers, and what to give them: `function`, or what calls it in a process that has it by birth."""
    if not can_fork():
        return ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)), function
    # Arguments of a forked process are inherited, not pickled: `function` may be a closure over a model.
    context = multiprocessing.get_context("fork")
    return ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(function,)), _task


def _begin(function: Callable[[Any], Any]) -> None:
    """First thing in a forked worker."""
    global _function
    _function = function
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends without a word when the user interrupts
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)  # and with its parent, however that ends


def _task(item: Any) -> Any:
    if _function is None:
        raise RuntimeError("a worker of in_order has no function: it was not forked by it")
    return _function(item)
