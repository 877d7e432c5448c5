"""Randomness as a function of (seed, example, sample), so that batch size and order change nothing.

Models draw through `uniform` and `normal` below. Given a `torch.Generator` they draw from it (training,
sampling); given `ExampleNoise` they draw numbers that depend only on the seed, on each example's index in the
data and on the sample's index (evaluation).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

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


Noise = torch.Generator | ExampleNoise


def uniform(
    shape: Sequence[int], generator: Noise, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Tensor:
    """Uniform noise on [0, 1) of `shape`; with `ExampleNoise` the shape is (k, B, ...)."""
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
    """Standard normal noise of `shape`; with `ExampleNoise` the shape is (k, B, ...)."""
    if isinstance(generator, ExampleNoise):
        # By inversion of the CDF: one uniform number each. Half a step above 0, where it is infinite.
        values = torch.from_numpy(generator.draw(shape)).clamp_(min=2.0**-54)
        return torch.special.ndtri(values).to(device=device, dtype=dtype)
    return torch.randn(tuple(shape), generator=generator, dtype=dtype, device=generator.device).to(device)
