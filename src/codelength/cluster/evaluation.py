"""Per-datum code lengths of a run by the workers of a Ray cluster."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from codelength.cluster.blocks import Progress, blocks_of, run_blocks
from codelength.evaluation.estimate import PerExample, from_arrays, scored_arrays
from codelength.models.base import LikelihoodModel

BATCHES_A_BLOCK = 10


class ScoreWorker:
    """Scores blocks of a split of a data set with a run's model.

    Args:
        run: Folder of the run, which every node sees.
        data, options: Name and options of the data set.
        split: Split of it.
        dequantizer: Name of the model's variant, "" where it has one only.
        samples, seed, batch_size: As for `per_example_nats`.
    """

    def __init__(
        self,
        run: str,
        data: str,
        options: dict[str, Any],
        split: str,
        dequantizer: str,
        samples: int,
        seed: int,
        batch_size: int,
    ) -> None:
        from codelength.data import load_data
        from codelength.evaluation.evaluate import dequantizer_variants
        from codelength.run import load_run

        self.model = dequantizer_variants(load_run(run).load_model())[dequantizer]
        self.split = load_data(data, **options).split(split)
        self.settings: dict[str, Any] = {"samples": samples, "seed": seed, "batch_size": batch_size}

    def block(self, start: int, stop: int) -> bytes:
        """The named arrays of data start ... stop − 1, as a .npz file."""
        arrays: dict[str, Any] = scored_arrays(self.model, self.split, indices=np.arange(start, stop), **self.settings)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        return buffer.getvalue()


def ray_scorer(
    run: Path,
    data: str,
    options: dict[str, Any],
    split: str,
    *,
    samples: int,
    seed: int,
    batch_size: int,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Any:
    """A `scorer` for `evaluate`: (variant's name, model, split) -> `PerExample`, computed by Ray's workers.

    Blocks are whole batches, so that the numbers are those of one machine of the same kind to the last bit.
    """

    def score(name: str, model: LikelihoodModel, chosen: Any) -> PerExample:
        settings = {"samples": samples, "seed": seed, "batch_size": batch_size}
        arguments = {"run": str(run), "data": data, "options": options, "split": split, "dequantizer": name, **settings}
        blocks = blocks_of(len(chosen), batch_size * BATCHES_A_BLOCK)
        parts = []
        for content in run_blocks(ScoreWorker, arguments, blocks, workers=workers, progress=progress):
            with np.load(io.BytesIO(content), allow_pickle=False) as npz:
                parts.append({key: npz[key] for key in npz.files})
        return from_arrays(model, chosen, parts, samples=samples, seed=seed)

    return score
