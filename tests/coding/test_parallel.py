"""Work in threads: results in order, errors pass, nothing runs far ahead."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from codelength.coding.parallel import default_workers, in_order


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


def test_workers_are_threads_of_one_thread_of_arithmetic() -> None:
    before = torch.get_num_threads()
    meeting = threading.Barrier(2, timeout=60)

    def work(n: int) -> int:
        meeting.wait()  # passes only if two run at once
        return torch.get_num_threads()

    assert list(in_order(work, range(2), workers=2)) == [1, 1]
    assert torch.get_num_threads() == before == default_workers()


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_pass_through(workers: int) -> None:
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda n: 1 // n, [1, 0, 1], workers))
    with pytest.raises(ValueError, match="at least 1"):
        list(in_order(abs, [1], 0))
