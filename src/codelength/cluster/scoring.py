"""Code lengths under every code that `codelength score` joins, by the workers of a Ray cluster."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from codelength.anomaly.lengths import Lengths, measure_lengths
from codelength.cluster.blocks import Progress, blocks_of, run_blocks

BLOCK = 500
SECONDS = "seconds "


class LengthsWorker:
    """Measures blocks of what a path names.

    Args:
        run: Folder of the run, which every node sees.
        path, split: As for `codelength score`.
        background: Folder of the background run, "context_table" to fit one, or "none".
        samples, seed: Of the evaluation pass.
    """

    def __init__(self, run: str, path: str, split: str, background: str, samples: int, seed: int) -> None:
        from codelength.anomaly.items import load_items
        from codelength.anomaly.lengths import BACKGROUND_TABLE, fit_background
        from codelength.report.collect import load_run_data
        from codelength.run import load_run

        trained = load_run(run)
        self.model = trained.load_model()
        _, self.data = load_items(path, split, trained, counted=False)  # the driver counted
        self.background = None
        if background == BACKGROUND_TABLE:
            self.background = fit_background(self.model, load_run_data(trained).split("train"))
        elif background != "none":
            self.background = load_run(background).load_model()
        self.settings: dict[str, Any] = {"samples": samples, "seed": seed}

    def block(self, start: int, stop: int) -> bytes:
        """Lengths and CPU-seconds of data start ... stop − 1, as a .npz file."""
        indices = np.arange(start, stop)
        found = measure_lengths(self.model, self.data, background=self.background, indices=indices, **self.settings)
        arrays: dict[str, Any] = {**found.nats, **{SECONDS + n: np.array(s) for n, s in found.seconds.items()}}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        return buffer.getvalue()


def ray_lengths(
    run: Path,
    path: str,
    split: str,
    count: int,
    *,
    background: str,
    samples: int,
    seed: int,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Lengths:
    """What the `count` data at a path cost under each code: `measure_lengths` by Ray's workers."""
    arguments = {"run": str(run.resolve()), "path": path, "split": split, "background": background}
    arguments |= {"samples": samples, "seed": seed}  # type: ignore[dict-item]
    parts: list[dict[str, np.ndarray]] = []
    for content in run_blocks(LengthsWorker, arguments, blocks_of(count, BLOCK), workers=workers, progress=progress):
        with np.load(io.BytesIO(content), allow_pickle=False) as npz:
            parts.append({key: npz[key] for key in npz.files})
    names = [name for name in parts[0] if not name.startswith(SECONDS)]
    nats = {name: np.concatenate([part[name] for part in parts]) for name in names}
    return Lengths(nats, {name: sum(float(part[SECONDS + name]) for part in parts) for name in names})
