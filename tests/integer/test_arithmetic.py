"""Requantization, tables and distributions by counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from codelength.functional import discretized_logistic_log_mass
from codelength.integer import IntegerMixture, LogisticTables, Lookup, Requantize
from codelength.integer.channel import IntegerCategorical
from codelength.integer.mixture import LOGIT_UNIT, MEAN_UNIT, SCALE_UNIT, SIGMOID_BITS, WEIGHT_BITS
from codelength.integer.tables import lookup


def draws(*shape: int, low: int = 0, high: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("wide", [False, True])
def test_requantization_is_product_sum_floor_clamp_each_rounded_once(wide):
    """Against numpy, whose operations on arrays are separate too; and against a fused multiply-add, which differs."""
    kind = np.float64 if wide else np.float32
    acc = draws(4000, 3, low=-(2**24), high=2**24)
    part = Requantize(3, -500, 500)
    multiplier = torch.tensor([3.1e-5, 7.7e-6, 1.3e-4], dtype=torch.float64)
    part.set(multiplier, torch.tensor([0.3, -7.25, 100.0]))
    got = part(acc.to(torch.int32) if wide else acc.float())
    m, b = multiplier.float().numpy().astype(kind), (torch.tensor([0.3, -7.25, 100.0]).double() + 0.5).float().numpy()
    product = (acc.numpy().astype(kind) * m).astype(kind)
    expected = np.clip(np.floor((product + b.astype(kind)).astype(kind)), -500, 500)
    np.testing.assert_array_equal(got.numpy(), expected)
    assert got.dtype == torch.float32


def test_contraction_would_change_results():
    """Why no multiply-add may be fused: skipping the rounding of the product changes integers."""
    acc, m = draws(200_000, low=2**19, high=2**24).float(), torch.tensor(1 / 3, dtype=torch.float32)
    b = torch.tensor(0.3)
    separate = (acc * m + b).floor()
    fused = (acc.double() * m.double() + b.double()).float().floor()
    assert not torch.equal(separate, fused)


def test_indices_are_the_results_minus_low():
    part = Requantize(2, -16, 15)
    part.set(torch.tensor([2.0**-6, 2.0**-5]), torch.tensor([0.25, -3.0]))
    acc = draws(500, 2, low=-3000, high=3000)
    for kind in (torch.float32, torch.int32):
        assert torch.equal(part.index(acc.to(kind)).float(), part(acc.to(kind)) + 16)


def test_requantize_survives_a_change_of_type_and_saving():
    part = Requantize(2, -100, 100)
    part.set(torch.tensor([1 / 3, 1 / 7], dtype=torch.float64), 0.1)
    x = draws(50, 2, low=-300, high=300).float()
    expected = part(x)
    assert torch.equal(part.double()(x), expected)
    other = Requantize(2, -100, 100)
    other(x)  # working copies of other buffers must not stay
    other.load_state_dict(part.state_dict())
    assert torch.equal(other(x), expected)


def test_requantize_refuses_what_is_not_exact():
    part = Requantize(1, -1, 1)
    for multiplier in (float("nan"), 2.0**-80, 2.0**80):
        with pytest.raises(ValueError, match=r"2\^-60"):
            part.set(multiplier)
    with pytest.raises(ValueError, match="bounds"):
        Requantize(1, 5, 4)


@pytest.mark.parametrize("columns", [0, 1, 2, 3, 4])
def test_lookup(columns):
    table = Lookup(-5, 11, columns)
    values = draws(*table.values.shape, low=-1000, high=1000, seed=columns)
    table.set(values)
    index = draws(4, 6, low=-5, high=6)
    assert torch.equal(table(index), values[index + 5].float())
    assert torch.equal(lookup(table.entries, index + 5), values[index + 5].float())
    with pytest.raises(ValueError, match="no exact float32"):
        table.set(torch.full(table.values.shape, 2.0**25))


def test_table_of_a_function_is_rounded_from_float64():
    table = Lookup(-8, 17)
    table.set_function(torch.tanh, 0.25, 2.0**-10, -(2**20), 2**20)
    expected = [round(math.tanh(i / 4) * 1024) for i in range(-8, 9)]
    assert table.values.tolist() == expected


def mixture(levels: int, sites: int, components: int = 4, seed: int = 0) -> IntegerMixture:
    tables = LogisticTables(levels)
    logits = draws(sites, components, low=-300, high=300, seed=seed).float()
    mean = draws(sites, components, low=-64 * levels // 4, high=64 * levels * 5 // 4, seed=seed + 1).float()
    steps = draws(sites, components, low=-10, high=tables.steps + 10, seed=seed + 2).float()
    return IntegerMixture(tables.weights(logits), mean, tables.inverse_scales(steps), tables)


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
def test_mixture_counts_are_integers_that_sum_to_the_total(levels):
    channel = mixture(levels, 200)
    values = torch.arange(levels).expand(200, levels)
    counts = torch.stack([channel.counts(values[:, v]) for v in range(levels)], dim=1)
    assert torch.equal(counts, counts.round())
    assert bool((counts >= 1).all())
    assert torch.equal(counts.sum(1), channel.total)
    assert float(channel.total.max()) < 2**53
    assert torch.equal(channel.below(torch.zeros(200, dtype=torch.long)), torch.zeros(200, dtype=torch.float64))
    torch.testing.assert_close(channel.probs().sum(-1), torch.ones(200, dtype=torch.float64), rtol=0, atol=1e-14)
    between = torch.full((200,), levels // 2)
    assert torch.equal(channel.between(between), channel.below(between))


def test_mixture_of_65536_levels():
    channel = mixture(65536, 20)
    value = draws(20, low=0, high=65536)
    assert bool((channel.counts(value) >= 1).all())
    assert torch.equal(channel.below(torch.full((20,), 65536)), channel.total)


def test_mixture_is_near_the_float_one():
    """The cost in bits is a KL divergence: second order in the grids' errors, plus the least count's 2^-15."""
    levels, sites = 256, 400
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(sites, 3, generator=generator, dtype=torch.float64)
    mean = torch.rand(sites, 3, generator=generator, dtype=torch.float64) * 2 - 1
    log_scale = torch.rand(sites, 3, generator=generator, dtype=torch.float64) * 5 - 6.5
    tables = LogisticTables(levels)
    integer = IntegerMixture(
        tables.weights((logits * LOGIT_UNIT).round().float()),
        ((mean + 1) / 2 * (levels - 1) * MEAN_UNIT).round().float(),
        tables.inverse_scales(((log_scale - tables.low) * SCALE_UNIT).round().float()),
        tables,
    )
    value = torch.arange(levels)
    mass = discretized_logistic_log_mass(value, mean[..., None], log_scale[..., None], levels).exp()
    p = (torch.softmax(logits, 1)[..., None] * mass).sum(1)
    kl = (p * (p.clamp(min=1e-300).log() - integer.probs().log())).sum(1)
    assert bool((kl > -1e-12).all())
    assert float(kl.mean()) < 3e-4
    assert float(kl.max()) < 3e-3


def test_mixture_weights_and_sigmoid_stay_within_float64():
    tables = LogisticTables(256)
    assert int(tables.exponential.max()) == 2**WEIGHT_BITS
    assert int(tables.sigmoid.max()) <= 2**SIGMOID_BITS
    assert bool((tables.sigmoid.diff() >= 0).all())
    assert 64 * 2 ** (WEIGHT_BITS + SIGMOID_BITS) < 2**53
    with pytest.raises(ValueError, match="65536"):
        LogisticTables(2**17)


def test_categorical_counts():
    weights = draws(30, 5, low=0, high=1000)
    weights[0] = 0
    channel = IntegerCategorical(weights)
    counts = torch.stack([channel.counts(torch.full((30,), v)) for v in range(5)], dim=1)
    assert torch.equal(counts.long(), 2 * weights + 1)
    assert torch.equal(counts.sum(1), channel.total)


def test_sampling_and_masses_agree():
    """Mean surprise of samples is the entropy, within five standard errors; and the search inverts the counts."""
    channel = mixture(17, 1)
    many = IntegerMixture(
        channel.weights.expand(20000, -1), channel.component_mean.expand(20000, -1),
        channel.inverse_scale.expand(20000, -1), channel.tables,
    )  # fmt: skip
    drawn = many.sample(torch.Generator().manual_seed(0))
    surprise = -many.log_prob(drawn)
    p = channel.probs()[0]
    entropy = -(p * p.log()).sum()
    assert abs(float(surprise.mean() - entropy)) < 5 * float(surprise.std()) / math.sqrt(20000)
    assert torch.equal(many.sample(temperature=0), many.mode)
    cold = many.sample(torch.Generator().manual_seed(0), temperature=0.3)
    assert float(-many.log_prob(cold).mean()) < float(entropy)
    value = draws(20000, low=0, high=17)
    assert torch.equal(many.search(many.below(value)), value)
    assert torch.equal(many.search(many.below(value + 1) - 1), value)
    assert torch.equal(many.cdf(torch.full((20000,), 16)), torch.ones(20000, dtype=torch.float64))
    assert float(many.cdf(torch.full((20000,), -1)).max()) == 0
