"""Work in processes or threads: results in order, errors pass, nothing runs far ahead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from codelength.coding.parallel import can_fork, default_workers, in_order


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_order_and_few_items_are_drawn_ahead(workers: int) -> None:
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for n in range(20):
            drawn.append(n)
            yield n

    ahead = []
    for taken, result in enumerate(in_order(lambda n: n * n, items(), workers)):
        assert result == taken * taken
        ahead.append(len(drawn) - taken)
    assert len(drawn) == 20
    assert max(ahead) <= workers + 1


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
def test_the_main_thread_forks_processes_of_one_thread_of_arithmetic(tmp_path: Path) -> None:
    before = torch.get_num_threads()

    def work(n: int) -> tuple[int, int]:
        (tmp_path / str(n)).touch()
        deadline = time.monotonic() + 60
        while len(list(tmp_path.iterdir())) < 2:  # passes only if two run at once
            assert time.monotonic() < deadline
        return os.getpid(), torch.get_num_threads()

    assert can_fork()
    (first, threads), (second, others) = in_order(work, range(2), workers=2)
    assert len({first, second, os.getpid()}) == 3
    assert threads == others == 1
    assert torch.get_num_threads() == before == default_workers()


def test_another_thread_takes_threads() -> None:
    meeting = threading.Barrier(2, timeout=60)

    def work(n: int) -> tuple[int, int]:
        meeting.wait()  # passes only if two run at once, in one process
        return os.getpid(), torch.get_num_threads()

    with ThreadPoolExecutor(1) as outer:
        assert not outer.submit(can_fork).result()
        found = outer.submit(lambda: list(in_order(work, range(2), workers=2))).result()
    assert found == [(os.getpid(), 1)] * 2


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_pass_through(workers: int) -> None:
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda n: 1 // n, [1, 0, 1], workers))
    with pytest.raises(ValueError, match="at least 1"):
        list(in_order(abs, [1], 0))


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
def test_workers_end_with_their_killed_parent() -> None:
    program = (
        "import os, time\n"
        "from codelength.coding.parallel import in_order\n"
        "def work(n):\n"
        "    print(os.getpid(), flush=True)\n"
        "    time.sleep(600)\n"
        "list(in_order(work, range(2), workers=2))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    assert all(Path(f"/proc/{pid}").exists() for pid in workers)
    parent.send_signal(signal.SIGKILL)
    parent.wait(60)
    deadline = time.monotonic() + 60
    while any(_runs(pid) for pid in workers):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)
    parent.stdout.close()


def _runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
