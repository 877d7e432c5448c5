"""What the probes feed a model: data, noise, extremes, and everything between."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from codelength.randomness import derive_seed
from codelength.space import Space


class Inputs:
    """Batches of a space, from a seed.

    Args:
        space: What a datum is; sizes known.
        seed: Seed of everything drawn.
        data: Integers of the audited split, (N, *shape); None without data.
    """

    def __init__(self, space: Space, seed: int, data: Tensor | None = None) -> None:
        self.space, self.seed = space, seed
        self._data = data

    def generator(self, *names: int | str) -> np.random.Generator:
        """A generator of its own for each purpose."""
        return np.random.default_rng(derive_seed(self.seed, "audit", *names))

    def noise(self, n: int, name: str = "noise") -> Tensor:
        """n data of uniform noise."""
        values = self.generator(name, n).integers(self.space.levels, size=(n, *self.space.sizes))
        return torch.from_numpy(values + self.space.offset)

    def data(self, n: int) -> Tensor:
        """n data (with repetition if there are fewer); without data, smooth ramps."""
        if self._data is None:
            return self._ramps(n)
        picks = self.generator("pick", n).permutation(max(n, len(self._data)))[:n] % len(self._data)
        return self._data[torch.from_numpy(picks)]

    def _ramps(self, n: int) -> Tensor:
        """Smooth images: a plane of random slope, clipped to the levels."""
        generator, sizes, top = self.generator("ramps", n), self.space.sizes, self.space.levels - 1
        value = generator.uniform(0, top, size=(n, *[1] * len(sizes)))
        for axis, size in enumerate(sizes):
            shape = [n if i == 0 else 1 for i in range(len(sizes) + 1)]
            slope = generator.uniform(-1, 1, size=shape) * top / max(1, size - 1) / 2
            grid = np.arange(size).reshape([-1 if i == axis + 1 else 1 for i in range(len(sizes) + 1)])
            value = value + slope * grid
        return torch.from_numpy(np.clip(np.rint(value), 0, top).astype(np.int64)) + self.space.offset

    def extremes(self) -> Tensor:
        """Data at the ends of the range: constant, checkerboard, one site apart, halves, random ends."""
        sizes, top, dims = self.space.sizes, self.space.levels - 1, self.space.num_dims
        flat = [np.zeros(dims), np.full(dims, top), np.full(dims, top // 2), np.full(dims, 1)]
        flat += [np.arange(dims) % 2 * top, (np.arange(dims) + 1) % 2 * top]
        flat += [(np.arange(dims) < dims // 2) * top, (np.arange(dims) >= dims // 2) * top]
        flat += [(np.arange(dims) == 0) * top, (np.arange(dims) != dims - 1) * top]
        flat += list(self.generator("extremes").integers(2, size=(6, dims)) * top)
        values = np.stack(flat).astype(np.int64).reshape(-1, *sizes)
        return torch.from_numpy(values) + self.space.offset

    def mixed(self, n: int, name: str = "mixed") -> Tensor:
        """n data with a random share of their dims replaced by noise, and some dims set to the ends."""
        generator = self.generator(name, n)
        x = self.data(n).numpy().copy()
        share = generator.random((n, *[1] * (x.ndim - 1))) ** 2
        noise = generator.integers(self.space.levels, size=x.shape) + self.space.offset
        ends = generator.integers(2, size=x.shape) * (self.space.levels - 1) + self.space.offset
        noise = np.where(generator.random(x.shape) < 0.3, ends, noise)
        return torch.from_numpy(np.where(generator.random(x.shape) < share, noise, x))

    def everything(self, n: int, name: str = "everything") -> Tensor:
        """Data, noise, extremes and mixtures: n of each kind but the extremes."""
        return torch.cat([self.data(n), self.noise(n, name), self.mixed(n, name), self.extremes()])


def all_data(space: Space, limit: int) -> Tensor | None:
    """Every datum of a space of at most `limit` data, (levels^D, *shape); None for a larger one."""
    dims = space.num_dims
    if dims * np.log(space.levels) > np.log(limit) + 1e-9:
        return None
    grid = np.indices((space.levels,) * dims).reshape(dims, -1).T
    return torch.from_numpy(np.ascontiguousarray(grid)).reshape(-1, *space.sizes) + space.offset
