"""A data set: fixed splits of integers, each with a fingerprint."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from codelength.errors import UsageError, unknown_name
from codelength.space import Space

if TYPE_CHECKING:
    from codelength.data.text import Text
    from codelength.data.vocabulary import Vocabulary

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """The data of one split, in a fixed order.

    Args:
        x: The integers that are scored, (N, *space.shape), uint8, uint16 or int64.
        clusters: Group of each datum where data come in groups (photograph, speaker, document), (N,) integers.
        conditions: Name -> (N,) integers, such as {"label": ...}, or real features (N, F).
        intensity: Where the data are dynamically binarized: probability of a 1 of each dim, (N, *shape), float32.
    """

    x: np.ndarray
    clusters: np.ndarray | None = None
    conditions: dict[str, np.ndarray] = field(default_factory=dict)
    intensity: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.x)

    def fingerprint(self) -> str:
        """SHA-256 of the exact integers scored: dtype-independent, order and shape included."""
        digest = hashlib.sha256(repr(tuple(self.x.shape)).encode())
        for start in range(0, len(self.x), 1024):
            digest.update(np.ascontiguousarray(self.x[start : start + 1024], dtype="<i4").tobytes())
        return digest.hexdigest()

    def batch(self, indices: np.ndarray | slice) -> Tensor:
        """Data at `indices` as an int64 tensor; real data, which have densities only, as float32."""
        kind = np.float32 if np.issubdtype(self.x.dtype, np.floating) else np.int64
        return torch.from_numpy(np.ascontiguousarray(self.x[indices]).astype(kind))

    def condition_batch(self, indices: np.ndarray | slice) -> dict[str, Tensor]:
        """Conditions at `indices` as int64 tensors, real features as float32."""
        return {
            name: torch.from_numpy(
                np.asarray(values[indices]).astype(np.float32 if np.issubdtype(values.dtype, np.floating) else np.int64)
            )
            for name, values in self.conditions.items()
        }


@dataclass(frozen=True)
class DataSet:
    """A named data set.

    Args:
        name: Its name, binarization included: "mnist5k", "mnist5k-static".
        space: What a datum is.
        splits: "train", "validation", "test" -> Split.
        licence: Licence of the data, as far as known.
        source: Where the data come from.
        texts: Of text, each split's whole text; its Split holds windows of it.
        vocabulary: Of text, what its tokens stand for.
    """

    name: str
    space: Space
    splits: dict[str, Split]
    licence: str = "unknown"
    source: str = "unknown"
    texts: dict[str, Text] = field(default_factory=dict)
    vocabulary: Vocabulary | None = None

    def split(self, name: str) -> Split:
        """The split `name`.

        Raises:
            UsageError: There is no such split.
        """
        if name not in self.splits:
            raise unknown_name(f"split of {self.name}", name, self.splits)
        split = self.splits[name]
        if len(split) == 0:
            raise UsageError(f"split {name!r} of {self.name} is empty; give more data or another split")
        return split
