"""Randomness as a function of (seed, example, sample), so that batch size and order change nothing.

Models draw through `uniform` and `normal` below. Given a `torch.Generator` they draw from it (training,
sampling); given `ExampleNoise` they draw numbers that depend only on the seed, on each example's index in the
data and on the sample's index (evaluation).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor


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
    of `first_sample + j` and of how many arrays were drawn before, and of nothing else.

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

    def draw(
        self, shape: Sequence[int], fill: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
    ) -> np.ndarray:
        """Draw an array of `shape` = (k, B, ...) with `fill(generator, shape[2:])` for each sample and example."""
        if len(shape) < 2 or shape[1] != len(self.examples):
            raise ValueError(
                f"ExampleNoise: shape {tuple(shape)}; wanted (k, {len(self.examples)}, ...) for these examples"
            )
        out = np.empty(tuple(shape), dtype=np.float64)
        key = derive_seed(self.seed, "example-noise")
        for j in range(shape[0]):
            for i, example in enumerate(self.examples):
                counter = [0, self._draws, self.first_sample + j, example]
                out[j, i] = fill(np.random.Generator(np.random.Philox(key=key, counter=counter)), tuple(shape[2:]))
        self._draws += 1
        return out


Noise = torch.Generator | ExampleNoise


def uniform(
    shape: Sequence[int], generator: Noise, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Tensor:
    """Uniform noise on [0, 1) of `shape`; with `ExampleNoise` the shape is (k, B, ...)."""
    if isinstance(generator, ExampleNoise):
        values = generator.draw(shape, lambda g, s: g.random(s))
        # Rounding float64 to a shorter type may reach 1.0, which is outside [0, 1).
        return torch.from_numpy(values).to(device=device, dtype=dtype).clamp(max=1 - torch.finfo(dtype).eps / 2)
    return torch.rand(tuple(shape), generator=generator, dtype=dtype, device=generator.device).to(device)


def normal(
    shape: Sequence[int], generator: Noise, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Tensor:
    """Standard normal noise of `shape`; with `ExampleNoise` the shape is (k, B, ...)."""
    if isinstance(generator, ExampleNoise):
        return torch.from_numpy(generator.draw(shape, lambda g, s: g.standard_normal(s))).to(device=device, dtype=dtype)
    return torch.randn(tuple(shape), generator=generator, dtype=dtype, device=generator.device).to(device)
