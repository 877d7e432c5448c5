"""Which data each step sees: a function of (seed, step) alone, so that a resumed run sees the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from codelength.data.dataset import Split
from codelength.data.stored import StoredArray, WindowOrder
from codelength.errors import UsageError
from codelength.randomness import Share, derive_seed, make_generator


@dataclass(frozen=True)
class Batch:
    """The data of one step.

    Args:
        x: (B, *shape): int64, or float32 for real data.
        conditions: Conditions the model takes, name -> (B,) int64.
        intensity: Probability of a 1 of each dim, (B, *shape), where data are dynamically binarized.
    """

    x: Tensor
    conditions: dict[str, Tensor]
    intensity: Tensor | None = None

    def with_images(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with data and intensities changed alike."""
        intensity = None if self.intensity is None else change(self.intensity)
        return Batch(change(self.x), self.conditions, intensity)

    def to(self, device: torch.device, memory_format: torch.memory_format = torch.contiguous_format) -> Batch:
        """The batch on `device`; images in `memory_format`."""

        def move(x: Tensor) -> Tensor:
            return x.to(device, memory_format=memory_format if x.ndim == 4 else torch.contiguous_format)

        intensity = None if self.intensity is None else move(self.intensity)
        return Batch(move(self.x), {n: v.to(device) for n, v in self.conditions.items()}, intensity)


class Batches:
    """The batches of a run.

    Epochs are permutations seeded by (seed, epoch), laid end to end and cut into batches: every batch is full, and in
    every epoch each datum comes once. Data stay in memory as they are; a batch is indexed and cast. Data larger than memory
    are permuted within windows of chunks (`stored.WindowOrder`).

    Args:
        split: Training data.
        batch_size: Data a batch, B.
        seed: Seed of order and flips.
        conditioning: Conditions to hand out.
        flip: Mirror each image with probability 1/2.
        translate: Move each image by up to so many sites along each axis; what moves in repeats the border.
        steps: Number of steps over which the share of images that are moved falls linearly from all to none.

    Raises:
        UsageError: The data have no such condition, or are no images to flip or move.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int,
        *,
        conditioning: tuple[str, ...] = (),
        flip: bool = False,
        translate: int = 0,
        steps: int = 1,
    ) -> None:
        for name in conditioning:
            if name not in split.conditions:
                known = ", ".join(split.conditions) or "none"
                raise UsageError(f"the model wants the condition {name!r} but the data have {known}; choose other data")
        for key, asked in (("horizontal_flip", flip), ("translate", translate)):
            if asked and split.x.ndim != 4:
                raise UsageError(f"training.{key}: data of shape {split.x.shape[1:]} are no images; leave it out")
        self.split, self.batch_size, self.seed, self.conditioning = split, batch_size, seed, conditioning
        self.flip, self.translate, self.steps = flip, translate, steps
        self._epoch = -1
        self._order: np.ndarray | WindowOrder = np.empty(0, dtype=np.int64)

    def indices(self, step: int) -> np.ndarray:
        """Index of each datum of step 1, 2, ..., (B,)."""
        positions = np.arange((step - 1) * self.batch_size, step * self.batch_size)
        epochs, places = np.divmod(positions, len(self.split))
        return np.concatenate([self._permutation(e)[places[epochs == e]] for e in np.unique(epochs)])

    def __getitem__(self, step: int) -> Batch:
        """The batch of step 1, 2, ..."""
        return self.part(step, Share(0, self.batch_size, self.batch_size))

    def part(self, step: int, share: Share) -> Batch:
        """The data `share` of the batch of a step; only they are read."""
        batch = take(self.split, self.indices(step)[share.start : share.stop], self.conditioning)
        if self.flip:
            mirrored = share.own(torch.rand(self.batch_size, generator=make_generator(self.seed, "flip", step)) < 0.5)
            batch = batch.with_images(lambda x: _flip(x, mirrored))
        if self.translate:
            moves = share.own(self._moves(step))
            batch = batch.with_images(lambda x: _translated(x, moves))
        return batch

    def _moves(self, step: int) -> Tensor:
        """By how many rows and columns each image of a step's batch is moved, int64 (B, 2)."""
        generator = make_generator(self.seed, "translate", step)
        far = 2 * self.translate + 1
        moves = torch.randint(far, (self.batch_size, 2), generator=generator) - self.translate
        moved = torch.rand(self.batch_size, 1, generator=generator) < 1 - step / self.steps
        return moves * moved

    def _permutation(self, epoch: int) -> np.ndarray | WindowOrder:
        if epoch != self._epoch and isinstance(self.split.x, StoredArray):
            self._epoch, self._order = epoch, self.split.x.order(self.seed, int(epoch))
        elif epoch != self._epoch:
            generator = make_generator(self.seed, "epoch", int(epoch))
            self._epoch, self._order = epoch, torch.randperm(len(self.split), generator=generator).numpy()
        return self._order


def take(split: Split, indices: np.ndarray | slice, conditioning: tuple[str, ...] = ()) -> Batch:
    """The data at `indices`, with the conditions named."""
    x = split.batch(indices)
    conditions = {n: v for n, v in split.condition_batch(indices).items() if n in conditioning}
    intensity = None if split.intensity is None else torch.from_numpy(split.intensity[indices].astype(np.float32))
    return Batch(x, conditions, intensity)


def is_real(split: Split) -> bool:
    """Whether the data are real numbers: they have a density and no bits/dim."""
    return bool(np.issubdtype(split.x.dtype, np.floating))


def subset(split: Split, indices: np.ndarray) -> Split:
    """The data at `indices` as a split of their own."""
    return Split(
        split.x[indices],
        None if split.clusters is None else split.clusters[indices],
        {name: np.asarray(values)[indices] for name, values in split.conditions.items()},
        None if split.intensity is None else split.intensity[indices],
    )


def choose(split: Split, count: int | None, seed: int) -> np.ndarray | None:
    """Sorted indices of a seeded choice of `count` data; None where that is all of them."""
    if count is None or count >= len(split):
        return None
    return np.sort(np.random.default_rng(derive_seed(seed, "validation")).permutation(len(split))[:count])


def data_mark(split: Split) -> str:
    """A quick mark of the training data (count, and SHA-256 of some spread data), to see on resume that they changed."""
    x = split.x if split.intensity is None else split.intensity
    count = 16 if isinstance(x, StoredArray) else 256  # each may cost a chunk
    spread = np.linspace(0, len(split) - 1, min(len(split), count)).astype(np.int64)
    return f"{len(split)}-{hashlib.sha256(np.ascontiguousarray(x[spread]).tobytes()).hexdigest()[:16]}"


def _translated(x: Tensor, moves: Tensor) -> Tensor:
    """Images, (B, C, H, W), moved down and right by `moves`, (B, 2); what moves in repeats the border."""
    rows, columns = (
        (torch.arange(size) - moves[:, axis : axis + 1]).clamp_(0, size - 1) for axis, size in enumerate(x.shape[2:])
    )
    return x[torch.arange(len(x))[:, None, None, None], torch.arange(x.shape[1])[:, None, None],
             rows[:, None, :, None], columns[:, None, None, :]]  # fmt: skip


def _flip(x: Tensor, mirrored: Tensor) -> Tensor:
    return torch.where(mirrored.view(-1, 1, 1, 1), x.flip(-1), x)
