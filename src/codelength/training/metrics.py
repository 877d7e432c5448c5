"""The records of a training: metrics.jsonl and TensorBoard, in bits/dim against steps, examples and CPU-seconds."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from torch import Tensor

from codelength import distributed
from codelength.errors import CheckpointError
from codelength.run import read_metrics, write_atomically
from codelength.space import Space
from codelength.units import bits_per_dim


class Clock:
    """Wall and CPU seconds since the start of training, summed over resumes.

    CPU-seconds are those of all threads of all processes: the budget that comparisons are made at. All processes must
    read at the same points.
    """

    def __init__(self, seconds: float = 0.0, cpu_seconds: float = 0.0) -> None:
        self._wall, self._cpu = time.perf_counter() - seconds, time.process_time() - cpu_seconds / distributed.size()

    def read(self) -> dict[str, float]:
        """{"seconds", "cpu_seconds"} so far."""
        cpu_seconds = float(distributed.total(torch.tensor(time.process_time() - self._cpu, dtype=torch.float64)))
        return {"seconds": round(time.perf_counter() - self._wall, 3), "cpu_seconds": round(cpu_seconds, 3)}


@dataclass
class Interval:
    """Sums over the steps since the last train line."""

    steps: int = 0
    nats: float = 0.0
    gradient_norm: float = 0.0
    seconds: float = 0.0


class Records:
    """Writes one line a logged event into metrics.jsonl, and the same numbers to TensorBoard; in the first process only.

    Args:
        folder: The run.
        num_dims: Dims of a datum; None for real data, whose density has nats but no bits/dim.
        batch_size: Examples a step.
        step: Step that training starts after; later lines of a killed run are removed.
        state: What `state` gave at that step.
    """

    def __init__(
        self, folder: Path, num_dims: int | None, batch_size: int, step: int = 0, state: dict[str, Any] | None = None
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.num_dims, self.batch_size = num_dims, batch_size
        state = state or {"interval": {}, "clock": {}}
        self._interval, self._clock = Interval(**state["interval"]), Clock(**state["clock"])
        self._file: TextIO | None = None
        if not distributed.is_first():
            return
        path = folder / "metrics.jsonl"
        lines = [line for line in read_metrics(path) if line["step"] <= step] if step and path.is_file() else []
        write_atomically(path, "".join(json.dumps(line) + "\n" for line in lines).encode())
        self._file = path.open("a")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1, flush_secs=30)

    def add(self, nats: float, gradient_norm: float, seconds: float) -> None:
        """Count a step in the next train line."""
        sums = self._interval
        sums.steps, sums.nats, sums.gradient_norm = sums.steps + 1, sums.nats + nats, sums.gradient_norm + gradient_norm
        sums.seconds += seconds

    @property
    def images_per_second(self) -> float:
        """Speed of the steps since the last train line, validation apart."""
        return round(self._interval.steps * self.batch_size / max(self._interval.seconds, 1e-9), 1)

    def bits_per_dim(self, nats: float) -> float | None:
        """In bits/dim, where the data have them."""
        return None if self.num_dims is None else bits_per_dim(nats, self.num_dims)

    def train_line(self, step: int, learning_rate: float) -> dict[str, Any]:
        """Write the means over the steps since the last train line."""
        sums, rate = self._interval, self.images_per_second
        self._interval = Interval()
        means = {"learning_rate": learning_rate, "grad_norm": sums.gradient_norm / sums.steps}
        return self.line(step, "train", sums.nats / sums.steps, **means, images_per_second=rate)

    def line(self, step: int, split: str, nats: float, **fields: Any) -> dict[str, Any]:
        """Write a line and return it.

        Raises:
            CheckpointError: The disk is full.
        """
        absent = {"learning_rate": None, "grad_norm": None}
        counts = {"examples": step * self.batch_size, **self._clock.read(), "images_per_second": None}
        cost = {"bits_per_dim": self.bits_per_dim(nats), "nats": nats}
        line = {"step": step, "split": split, **cost, **absent, **counts, **fields}
        if self._file is None:
            return line
        try:
            self._file.write(json.dumps(line, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise CheckpointError(
                f"cannot write {self._file.name}: {error.strerror}; free disk space, then train with --resume"
            ) from error
        for name in ("bits_per_dim", "nats", "learning_rate", "grad_norm", "images_per_second"):
            if line[name] is not None:
                self._board.add_scalar(f"{split}/{name}", line[name], step)
        return line

    def samples(self, x: Tensor, space: Space, step: int) -> None:
        """Show sampled images, (n, C, H, W) integers, as a grid."""
        self._board.add_image("samples", image_grid(x, space), step, dataformats="CHW")

    def state(self) -> dict[str, Any]:
        """What a resumed run goes on from; the lines so far are on disk when it returns."""
        if self._file is not None:
            os.fsync(self._file.fileno())
        return {"interval": vars(self._interval), "clock": self._clock.read()}

    def close(self) -> None:
        """Flush and close."""
        if self._file is None:
            return
        self._file.close()
        self._board.close()


def image_grid(x: Tensor, space: Space) -> np.ndarray:
    """A near-square grid of images with a border of one pixel: (n, C, H, W) integers to (1 or 3, rows, columns) uint8."""
    x = x.cpu() if x.shape[1] in (1, 3) else x[:, :1].cpu()
    grey = ((x - space.offset).float() * (255 / (space.levels - 1))).round().clamp(0, 255).byte().numpy()
    columns = int(np.ceil(np.sqrt(len(grey))))
    rows = -(-len(grey) // columns)
    padded = np.full((rows * columns, grey.shape[1], grey.shape[2] + 1, grey.shape[3] + 1), 127, dtype=np.uint8)
    padded[: len(grey), :, :-1, :-1] = grey
    tiles = padded.reshape(rows, columns, *padded.shape[1:])
    return tiles.transpose(2, 0, 3, 1, 4).reshape(padded.shape[1], rows * padded.shape[2], columns * padded.shape[3])


def peak_memory_mib() -> float | None:
    """Largest resident memory of the process so far, MiB; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
