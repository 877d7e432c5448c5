"""Integers that do not fit into memory: arrays that are read chunk by chunk when they are asked for.

A `StoredArray` stands where a NumPy array would in `Split.x`: it has a shape, a dtype, a length, and gives data by slices
and index arrays. Chunks just used stay in memory up to a limit, so reading in order, or in a `WindowOrder`, reads each once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any, Protocol

import numpy as np

from codelength.errors import UsageError
from codelength.randomness import make_generator

KEPT_BYTES = 2**28
"""Bytes of chunks that an array keeps in memory."""
WINDOW_BYTES = 2**26
"""Bytes of the chunks among which data are shuffled."""
ARRAY_LIMIT = 2**31
"""Bytes beyond which a stored array is not turned into one in memory."""


class Source(Protocol):
    """Where data are read from. `lengths`: data of each chunk."""

    lengths: list[int]

    def read(self, chunk: int) -> np.ndarray:
        """The integers of a chunk, (lengths[chunk], *shape)."""
        ...


class StoredArray:
    """Data (N, *shape) of a source.

    Args:
        source: Where they are.
        chosen: Which data, increasing indices into the source; all by default.

    Raises:
        UsageError: There are no data.
    """

    def __init__(self, source: Source, chosen: np.ndarray | None = None) -> None:
        self.source, self.chosen = source, chosen
        starts = np.concatenate([[0], np.cumsum(source.lengths)]).astype(np.int64)
        self._source_starts = starts
        # Where each chunk's data start among the chosen ones.
        self.starts = starts if chosen is None else np.searchsorted(chosen, starts)
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()
        nonempty = np.flatnonzero(np.diff(self.starts))
        if len(nonempty) == 0:
            raise UsageError("no data; give a folder, file or address that holds some")
        first = self._chunk(int(nonempty[0]))
        self.dtype = first.dtype
        self.shape = (int(self.starts[-1]), *first.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Number of axes, the data's own included."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all data."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def subset(self, indices: np.ndarray) -> StoredArray:
        """The data at `indices`, which increase."""
        indices = np.asarray(indices, dtype=np.int64)
        return StoredArray(self.source, indices if self.chosen is None else self.chosen[indices])

    def __getitem__(self, key: Any) -> np.ndarray:
        """Data by an index, a slice, or an array of indices or booleans, as a new array."""
        if isinstance(key, int | np.integer):
            return self[np.array([int(key)])][0]
        if isinstance(key, slice):
            places = np.arange(*key.indices(len(self)))
        else:
            places = np.asarray(key)
            places = np.flatnonzero(places) if places.dtype == bool else places.astype(np.int64)
        if len(places) and (places.min() < -len(self) or places.max() >= len(self)):
            raise IndexError(f"index {places.min()}..{places.max()} of {len(self)} data")
        places = np.where(places < 0, places + len(self), places)
        out = np.empty((len(places), *self.shape[1:]), dtype=self.dtype)
        chunks = np.searchsorted(self.starts, places, side="right") - 1
        for chunk in np.unique(chunks).tolist():
            here = chunks == chunk
            offsets = places[here]
            if self.chosen is not None:
                offsets = self.chosen[offsets]
                out[here] = self._chunk(chunk)[offsets - self._source_starts[chunk]]
            else:
                out[here] = self._chunk(chunk)[offsets - self.starts[chunk]]
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.nbytes > ARRAY_LIMIT:
            raise UsageError(
                f"{len(self):,} data of {self.nbytes / 2**30:.1f} GiB do not fit into memory at once, and this wants all of "
                "them there; take a part, such as --examples, or a smaller data set"
            )
        whole = self[:]
        return whole if dtype is None else whole.astype(dtype)

    def _chunk(self, chunk: int) -> np.ndarray:
        with self._lock:
            if chunk in self._kept:
                self._kept.move_to_end(chunk)
                return self._kept[chunk]
            values = self.source.read(chunk)
            self._kept[chunk] = values
            while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > KEPT_BYTES:
                self._kept.popitem(last=False)
            return values

    def order(self, seed: int, epoch: int) -> WindowOrder:
        """The order of an epoch."""
        counts = np.diff(self.starts)
        bytes_each = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        return WindowOrder(counts, max(1, WINDOW_BYTES // bytes_each), seed, epoch)


class WindowOrder:
    """A permutation of data in chunks that can be read with few chunks in memory: a function of (seed, epoch).

    Chunks are put in a random order; consecutive ones are joined to windows of `size` data or one chunk at least; the data of
    a window are permuted. Any place is found without the places before it, so that an epoch is entered anywhere.

    Args:
        counts: Data of each chunk.
        size: Data of a window, from which on no further chunk is joined.
        seed, epoch: See above.
    """

    def __init__(self, counts: np.ndarray, size: int, seed: int, epoch: int) -> None:
        import torch

        self.counts, self.seed, self.epoch = np.asarray(counts, dtype=np.int64), seed, epoch
        self._first = np.concatenate([[0], np.cumsum(self.counts)])
        generator = make_generator(seed, "epoch chunks", epoch)
        self._chunks = torch.randperm(len(self.counts), generator=generator).numpy()
        windows: list[list[int]] = []
        filled = size
        for chunk in self._chunks.tolist():
            if filled >= size:
                windows.append([])
                filled = 0
            windows[-1].append(chunk)
            filled += int(self.counts[chunk])
        self.windows = windows
        sizes = [int(self.counts[window].sum()) for window in windows]
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        self._known: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """The data that come at these places of the epoch."""
        windows = np.searchsorted(self._starts, places, side="right") - 1
        out = np.empty(len(places), dtype=np.int64)
        for window in np.unique(windows).tolist():
            here = windows == window
            out[here] = self._window(window)[places[here] - self._starts[window]]
        return out

    def _window(self, window: int) -> np.ndarray:
        import torch

        if self._known[0] != window:
            data = np.concatenate([np.arange(self._first[c], self._first[c + 1]) for c in self.windows[window]])
            generator = make_generator(self.seed, "epoch window", self.epoch, window)
            self._known = (window, data[torch.randperm(len(data), generator=generator).numpy()])
        return self._known[1]
