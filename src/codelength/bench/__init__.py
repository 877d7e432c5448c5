"""Times side by side: ours against others' on the same task, data and threads, in alternating runs.

A task prepares two contestants, checks that they do the same work (parity) and that our model passes its audit, and only then
are their times worth a ratio. Others' code runs in environments of its own (`peers`).
"""

from codelength.bench.measure import Contest, Result, alternate, machine, summarize
from codelength.bench.tasks import TASKS, run_task

__all__ = ["TASKS", "Contest", "Result", "alternate", "machine", "run_task", "summarize"]
