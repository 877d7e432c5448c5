"""Randomness as a function of (seed, example, sample), so that batch size and order change nothing.

Models draw through `uniform` and `normal` below. Given a `torch.Generator` they draw from it (training,
sampling); given `ExampleNoise` they draw numbers that depend only on the seed, on each example's index in the
data and on the sample's index (evaluation); given `SharedNoise`, the part of a generator's numbers that belongs to some
data of a batch (training on many devices, or a batch in parts).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

PHILOX_BLOCK = 4  # numbers of 64 bits that one value of the counter gives


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from any integers and names: the same parts give the same seed on every machine.

    >>> derive_seed(0, "data", 1) == derive_seed(0, "data", 1) != derive_seed(0, "data", 2)
    True
    """
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def make_generator(*parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch.Generator seeded by `derive_seed(*parts)`."""
    return torch.Generator(device=device).manual_seed(derive_seed(*parts))


class ExampleNoise:
    """A stream of noise for a batch of numbered examples and a range of numbered samples.

    Every call draws a fresh array of shape (k, B, ...); entry (j, i) is a function of the seed, of `examples[i]`,
    of `first_sample + j` and of how many arrays were drawn before (and of the shape of one entry), and of nothing else.

    Args:
        seed: Seed of the evaluation.
        examples: Index of each of the B examples in its data set.
        first_sample: Index of the first of the k samples.
    """

    def __init__(self, seed: int, examples: Sequence[int] | np.ndarray | Tensor, first_sample: int = 0) -> None:
        self.seed = seed
        self.examples = [int(i) for i in examples]
        self.first_sample = first_sample
        self._draws = 0

    def draw(self, shape: Sequence[int]) -> np.ndarray:
        """Uniform numbers on [0, 1), float64, of `shape` = (k, B, ...).

        An example has its own counter-based stream (Philox, Salmon et al. 2011) in which sample j occupies the blocks
        [j * blocks, (j + 1) * blocks): consecutive samples are one contiguous draw, at 4 ns a number. So noise takes
        exactly one number of the stream each; a rejection sampler would not know where the next sample starts.
        """
        if len(shape) < 2 or shape[1] != len(self.examples):
            raise ValueError(
                f"ExampleNoise: shape {tuple(shape)}; wanted (k, {len(self.examples)}, ...) for these examples"
            )
        k, batch, size = shape[0], shape[1], math.prod(shape[2:])
        blocks = -(-size // PHILOX_BLOCK)
        out = np.empty((k, batch, size), dtype=np.float64)
        key = derive_seed(self.seed, "example-noise")
        for i, example in enumerate(self.examples):
            counter = [self.first_sample * blocks, self._draws, example, 0]
            stream = np.random.Generator(np.random.Philox(key=key, counter=counter))
            out[:, i] = stream.random((k, blocks * PHILOX_BLOCK))[:, :size]
        self._draws += 1
        return out.reshape(tuple(shape))


@dataclass(frozen=True)
class Share:
    """Data start ... stop − 1 of a batch of `total`."""

    start: int
    stop: int
    total: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole batch."""
        return len(self) == self.total

    def own(self, whole: Tensor, dim: int = 0) -> Tensor:
        """The part of an array of the whole batch, which runs along `dim`."""
        return whole.narrow(dim, self.start, len(self))


class SharedNoise:
    """The noise of some data of a batch: what they would get were the whole batch drawn at once.

    Every call draws the numbers of the whole batch and keeps its own, so that the noise of a datum does not depend on how
    the batch is cut. In place of a torch.Generator, where models draw by the functions of this module.

    Args:
        generator: Source of the numbers, in the same state for every part of the batch.
        share: Which part.
    """

    def __init__(self, generator: torch.Generator, share: Share) -> None:
        self.generator, self.share = generator, share

    @property
    def device(self) -> torch.device:
        """Device of the generator."""
        return self.generator.device

    def whole(self, shape: Sequence[int], dim: int) -> list[int]:
        """`shape` with the size of the whole batch at `dim`.

        Raises:
            ValueError: `shape` has another size than the part there.
        """
        if len(shape) <= dim or shape[dim] != len(self.share):
            raise ValueError(f"SharedNoise: shape {tuple(shape)}; wanted {len(self.share)} data at dim {dim}")
        return [*shape[:dim], self.share.total, *shape[dim + 1 :]]


_sharing: Share | None = None


@contextmanager
def sharing(share: Share | None) -> Iterator[None]:
    """Inside, dropout masks are those that `share` of the batch would get were the whole batch drawn at once."""
    global _sharing
    before, _sharing = _sharing, None if share is None or share.is_whole else share
    try:
        yield
    finally:
        _sharing = before


def whole_batch(shape: Sequence[int]) -> list[int]:
    """Shape of a tensor (k * B, ...) with the whole batch in place of the share; as it is if nothing is shared."""
    if _sharing is None:
        return list(shape)
    samples, rest = divmod(shape[0], len(_sharing))
    if rest:
        raise ValueError(
            f"dropout of shape {tuple(shape)} in a share of {len(_sharing)} data; wanted a multiple of them"
        )
    return [samples * _sharing.total, *shape[1:]]


def own_part(whole: Tensor) -> Tensor:
    """The share's part of a tensor that has a shape of `whole_batch`."""
    if _sharing is None:
        return whole
    return _sharing.own(whole.unflatten(0, (-1, _sharing.total)), 1).flatten(0, 1)


Noise = torch.Generator | ExampleNoise | SharedNoise


def uniform(
    shape: Sequence[int], generator: Noise, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Tensor:
    """Uniform noise on [0, 1) of `shape`; with `ExampleNoise` and `SharedNoise` the shape is (k, B, ...)."""
    if isinstance(generator, SharedNoise):
        whole = uniform(generator.whole(shape, 1), generator.generator, device=device, dtype=dtype)
        return generator.share.own(whole, 1)
    if isinstance(generator, ExampleNoise):
        # Rounding float64 to a shorter type may reach 1.0, which is outside [0, 1).
        return (
            torch.from_numpy(generator.draw(shape))
            .to(device=device, dtype=dtype)
            .clamp(max=1 - torch.finfo(dtype).eps / 2)
        )
    return torch.rand(tuple(shape), generator=generator, dtype=dtype, device=generator.device).to(device)


def normal(
    shape: Sequence[int], generator: Noise, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Tensor:
    """Standard normal noise of `shape`; with `ExampleNoise` and `SharedNoise` the shape is (k, B, ...)."""
    if isinstance(generator, SharedNoise):
        whole = normal(generator.whole(shape, 1), generator.generator, device=device, dtype=dtype)
        return generator.share.own(whole, 1)
    if isinstance(generator, ExampleNoise):
        # By inversion of the CDF: one uniform number each. Half a step above 0, where it is infinite.
        values = torch.from_numpy(generator.draw(shape)).clamp_(min=2.0**-54)
        return torch.special.ndtri(values).to(device=device, dtype=dtype)
    return torch.randn(tuple(shape), generator=generator, dtype=dtype, device=generator.device).to(device)


def integers(high: int, shape: Sequence[int], generator: torch.Generator | SharedNoise) -> Tensor:
    """Integers 0 ... high − 1, int64, (B, ...), or () for one number that the whole batch shares."""
    if isinstance(generator, SharedNoise):
        if not shape:
            return integers(high, shape, generator.generator)
        return generator.share.own(integers(high, generator.whole(shape, 0), generator.generator))
    return torch.randint(high, tuple(shape), generator=generator, device=generator.device)
