"""Chunks of a compressed file by the workers of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from codelength.cluster.blocks import Progress, blocks_of, run_blocks


class ChunkWorker:
    """Codes chunks of what some paths name with a run's model.

    Args:
        run: Folder of the run, which every node sees.
        paths: What to compress, as for `codelength compress`.
        pairs: Conditions, as for `--condition`.
        batch, threads: As in the file's header.
    """

    def __init__(self, run: str, paths: Sequence[str], pairs: Sequence[str], batch: int, threads: int) -> None:
        from codelength.coding.codec import load_coder
        from codelength.coding.conditions import checked_conditions
        from codelength.coding.files import read_conditions, read_items
        from codelength.run import load_run

        opened = load_run(run)
        self.model, _ = load_coder(opened)
        items = read_items(paths, opened.space)
        conditions = {**items.conditions, **read_conditions(pairs, len(items.x))}
        self.x, self.batch, self.threads = items.x, batch, threads
        model = self.model
        self.conditions = checked_conditions(conditions, model.conditioning, model.space.conditions, len(self.x))

    def block(self, start: int, stop: int) -> bytes:
        """The payload of the chunk of items start ... stop − 1."""
        from codelength.coding.codec import encode_chunk

        told = {name: np.asarray(values)[start:stop] for name, values in self.conditions.items()}
        return encode_chunk(self.model, self.x[start:stop], told, batch=self.batch, threads=self.threads)


def ray_streams(
    run: Path,
    paths: Sequence[str],
    pairs: Sequence[str],
    *,
    items: int,
    chunk: int,
    batch: int,
    threads: int,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Iterator[bytes]:
    """The payload of every chunk of a file, in order, for `compress(streams=...)`."""
    arguments = {
        "run": str(run.resolve()),
        "paths": list(paths),
        "pairs": list(pairs),
        "batch": batch,
        "threads": threads,
    }
    return run_blocks(ChunkWorker, arguments, blocks_of(items, chunk), workers=workers, progress=progress)
