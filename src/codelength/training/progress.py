"""Talk on stderr: a bar on a terminal, an occasional line elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

from codelength import distributed

SECONDS_BETWEEN_LINES = 10.0


class Talk:
    """Reports on a training, on stderr.

    Args:
        steps: Steps in all.
        shown: Show progress; notes are shown in any case.
    """

    def __init__(self, steps: int, shown: bool) -> None:
        self.steps, self.shown = steps, shown and distributed.is_first()
        self._bar: Any = None
        self._task: Any = None
        self._last = time.monotonic()

    def start(self, name: str, step: int) -> None:
        """Training starts after `step`."""
        if not self.shown:
            return
        if not sys.stderr.isatty():
            self._line(f"{name}: step {step} of {self.steps}")
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
        )
        self._bar = Progress(*columns, TimeRemainingColumn(), TextColumn("left"), console=Console(stderr=True))
        self._task = self._bar.add_task(name, total=self.steps, completed=step, state="")
        self._bar.start()

    def step(self, step: int, cost: str, images_per_second: float) -> None:
        """A step is done; `cost` is its code length with the unit."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step, state=f"{cost}  {images_per_second:.0f}/s")

    def logged(self, line: dict[str, Any]) -> None:
        """A line of metrics.jsonl was written."""
        due = line["split"] != "train" or time.monotonic() - self._last >= SECONDS_BETWEEN_LINES
        if not self.shown or (self._bar is None and not due):
            return
        if self._bar is None or line["split"] != "train":
            rate, cost = line["images_per_second"], describe_cost(line["nats"], line["bits_per_dim"])
            left = (self.steps - line["step"]) * line["seconds"] / line["step"]
            end = f", about {left:.0f} s left" if line["split"] == "train" and left >= 1 else ""
            speed = f", {rate:.0f}/s" if rate else ""
            self._line(f"step {line['step']} of {self.steps}: {line['split']} {cost}{speed}{end}")

    def note(self, text: str) -> None:
        """Something the user should know, progress or not."""
        self._line(f"note: {text}")

    def say(self, text: str) -> None:
        """A result."""
        self._line(text)

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _line(self, text: str) -> None:
        if not distributed.is_first():
            return
        self._last = time.monotonic()
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)


def describe_cost(nats: float, bits_per_dim: float | None) -> str:
    """A code length with its unit.

    >>> describe_cost(300.0, 1.25), describe_cost(300.0, None)
    ('1.2500 bits/dim', '300.000 nats')
    """
    return f"{nats:.3f} nats" if bits_per_dim is None else f"{bits_per_dim:.4f} bits/dim"
