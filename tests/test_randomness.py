"""Noise is a function of (seed, example, sample): chunks, batches and order change nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from codelength.randomness import ExampleNoise, derive_seed, make_generator, normal, uniform


@pytest.mark.parametrize("draw", [uniform, normal])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (4,), (2, 3, 3)])
def test_entries_depend_on_seed_example_and_sample_only(draw, shape):
    whole = draw((6, 5, *shape), ExampleNoise(7, range(5)), dtype=torch.float64)
    examples = [4, 0, 2]
    part = draw((2, 3, *shape), ExampleNoise(7, examples, first_sample=3), dtype=torch.float64)
    assert torch.equal(part, whole[3:5, examples])


@pytest.mark.parametrize("change", ["seed", "example", "sample", "draw"])
def test_entries_do_depend_on_each(change):
    noise = ExampleNoise(7, [0])
    first = uniform((1, 1, 4), noise)
    other = {
        "seed": ExampleNoise(8, [0]),
        "example": ExampleNoise(7, [1]),
        "sample": ExampleNoise(7, [0], first_sample=1),
        "draw": noise,
    }[change]
    assert not torch.isclose(first, uniform((1, 1, 4), other)).any()


def test_no_number_is_used_twice():
    noise = ExampleNoise(0, range(20))
    values = np.concatenate([noise.draw((30, 20, 5)).ravel() for _ in range(3)])
    assert len(np.unique(values)) == values.size


def _moments_fit(x: Tensor, mean: float, variance: float, kurtosis: float) -> None:
    n = x.numel()
    assert abs(float(x.mean()) - mean) < 5 * math.sqrt(variance / n)
    assert abs(float(x.var()) - variance) < 5 * variance * math.sqrt((kurtosis - 1) / n)


def test_uniform_and_normal_have_their_moments():
    u = uniform((200, 100, 10), ExampleNoise(1, range(100)), dtype=torch.float64)
    z = normal((200, 100, 10), ExampleNoise(1, range(100)), dtype=torch.float64)
    _moments_fit(u, 0.5, 1 / 12, 1.8)
    _moments_fit(z, 0.0, 1.0, 3.0)
    # Neighbours, in samples and in examples, are uncorrelated.
    for a, b in ((z[1:], z[:-1]), (z[:, 1:], z[:, :-1]), (z[..., 1:], z[..., :-1])):
        assert abs(float((a * b).mean())) < 5 / math.sqrt(a.numel())


def test_float32_is_the_rounded_float64_and_stays_below_one():
    single = uniform((500, 40, 50), ExampleNoise(2, range(40)))
    double = uniform((500, 40, 50), ExampleNoise(2, range(40)), dtype=torch.float64)
    assert float(single.max()) < 1
    assert float(single.min()) >= 0
    assert float((single.double() - double).abs().max()) <= 2.0**-24


def test_extremes_of_a_normal_are_finite(monkeypatch):
    extremes = np.array([0.0, 1 - 2.0**-53]).reshape(1, 1, 2)
    monkeypatch.setattr(ExampleNoise, "draw", lambda self, shape: extremes.copy())
    z = normal((1, 1, 2), ExampleNoise(0, [0]), dtype=torch.float64)
    assert torch.isfinite(z).all()
    assert float(z.abs().max()) > 8


def test_a_generator_is_taken_too_and_repeats():
    for draw in (uniform, normal):
        a, b = (draw((3, 2), make_generator(5, "x"), dtype=torch.float64) for _ in range(2))
        assert torch.equal(a, b)
        assert a.dtype == torch.float64
    assert not torch.equal(uniform((4,), make_generator(5)), uniform((4,), make_generator(6)))


def test_a_shape_without_the_batch_is_refused():
    for shape in ((3,), (3, 4, 2)):
        with pytest.raises(ValueError, match="wanted"):
            uniform(shape, ExampleNoise(0, range(5)))


def test_seeds_of_different_parts_differ_and_are_63_bits():
    seeds = {derive_seed(a, b) for a in range(30) for b in ("data", "noise")}
    assert len(seeds) == 60
    assert max(seeds) < 2**63
    assert derive_seed(1, 23) != derive_seed(12, 3)
