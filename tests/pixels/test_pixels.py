"""Pixel distributions: every view of one is the same distribution."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from codelength import Space
from codelength.errors import UsageError
from codelength.pixels import (
    Bernoulli,
    Categorical,
    EmissionBernoulli,
    LogisticMixture,
    PixelDistribution,
    UniformPixels,
    make_likelihood,
)


def _mixture(channels: int, levels: int, sites=(2, 2), copies: int = 1, **options) -> LogisticMixture:
    """Three random mixtures, `copies` times."""
    likelihood = make_likelihood("logistic_mixture", Space.image(channels, 2, 2, levels), **options)
    generator = torch.Generator().manual_seed(0)
    parameters = 2 * torch.randn(3, likelihood.num_parameters, *sites, generator=generator, dtype=torch.float64)
    return likelihood(parameters.repeat(copies, 1, 1, 1))


def _cases() -> list[tuple[str, Space, dict]]:
    grey, colour, binary = Space.image(1, 2, 2, 5), Space.image(3, 2, 2, 4), Space.image(2, 2, 2, 2)
    return [
        ("bernoulli", binary, {}),
        ("emission", binary.with_binarization("dynamic"), {}),
        ("categorical", grey, {}),
        ("categorical", colour, {}),
        ("logistic_mixture", grey, {"components": 3}),
        ("logistic_mixture", colour, {"components": 3}),
        ("logistic_mixture", colour, {"components": 2, "coupling": False}),
        ("logistic_mixture", Space.image(1, 2, 2, 70_000), {"components": 2}),
    ]


@pytest.fixture(params=_cases(), ids=lambda case: f"{case[0]}-{case[1].shape[0]}x{case[1].levels}")
def copies(request) -> Callable[[int], PixelDistribution]:
    """copies(n): n times the same two data's distribution, batch shape (2 n,)."""
    name, space, options = request.param
    likelihood = make_likelihood(name, space, **options)
    generator = torch.Generator().manual_seed(0)
    parameters = 2 * torch.randn(2, likelihood.num_parameters, 2, 1, generator=generator, dtype=torch.float64)
    return lambda n: likelihood(parameters.repeat(n, 1, 1, 1))


@pytest.fixture
def distribution(copies) -> PixelDistribution:
    return copies(1)


def _values(distribution: PixelDistribution, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (*distribution.batch_shape, *distribution.event_shape)
    return torch.randint(distribution.levels, shape, generator=generator)


def test_channels_chain_to_the_joint(distribution):
    value = _values(distribution)
    chained = [distribution.channel(c, value[:, :c]).log_prob(value[:, c]) for c in range(distribution.channels)]
    torch.testing.assert_close(torch.stack(chained, 1), distribution.log_prob_per_dim(value), rtol=1e-9, atol=1e-9)
    total = distribution.log_prob_per_dim(value).flatten(1).sum(1)
    torch.testing.assert_close(total, distribution.log_prob(value), rtol=1e-9, atol=1e-9)


def test_tables_log_masses_and_cdfs_agree(distribution):
    value = _values(distribution)
    for c in range(distribution.channels):
        channel = distribution.channel(c, value[:, :c])
        table = channel.probs()
        assert table.dtype == torch.float64
        torch.testing.assert_close(table.sum(-1), torch.ones_like(table[..., 0]), rtol=0, atol=1e-9)
        own = table.gather(-1, value[:, c].unsqueeze(-1)).squeeze(-1)
        torch.testing.assert_close(own.log(), channel.log_prob(value[:, c]).double(), rtol=1e-6, atol=1e-6)
        for level in {0, 1, distribution.levels // 2, distribution.levels - 1}:
            cdf = channel.cdf(torch.full_like(value[:, c], level))
            torch.testing.assert_close(cdf, table[..., : level + 1].sum(-1), rtol=0, atol=1e-9)
        assert (channel.cdf(torch.full_like(value[:, c], -1)) == 0).all()
        assert (channel.cdf(torch.full_like(value[:, c], distribution.levels - 1)) == 1).all()


def test_mean_and_mode_of_a_channel_are_those_of_its_table(distribution):
    channel = distribution.channel(0, _values(distribution)[:, :0])
    table = channel.probs()
    torch.testing.assert_close(channel.mean, (table * torch.arange(distribution.levels)).sum(-1))
    assert torch.equal(channel.mode, table.argmax(-1))
    assert distribution.mean.shape == distribution.mode.shape == (2, *distribution.event_shape)
    torch.testing.assert_close(distribution.mean[:, 0], channel.mean)
    assert torch.equal(distribution.mode[:, 0], channel.mode)


def test_samples_cost_the_entropy(copies):
    """Mean −log P of samples is the entropy of the tables within 5 standard errors."""
    n, distribution = 4000, copies(1)
    samples = copies(n).sample(generator=torch.Generator().manual_seed(1)).unflatten(0, (n, 2))
    table = distribution.channel(0, samples[0, :, :0]).probs()
    log_table = table.clamp(min=1e-300).log()
    entropy = -(table * log_table).sum(-1)
    spread = (table * (log_table + entropy.unsqueeze(-1)).square()).sum(-1).sqrt()
    cost = -log_table.expand(n, *log_table.shape).gather(-1, samples[:, :, 0].unsqueeze(-1)).squeeze(-1).mean(0)
    assert ((cost - entropy).abs() <= 5 * spread / math.sqrt(n) + 1e-9).all()


def test_sampling_is_a_function_of_the_generator(distribution):
    first, second, third = (
        distribution.sample(generator=torch.Generator().manual_seed(seed), temperature=t)
        for seed, t in ((1, 1.0), (1, 1.0), (2, 0.0))
    )
    assert torch.equal(first, second)
    assert torch.equal(third, distribution.sample(generator=torch.Generator().manual_seed(9), temperature=0.0))
    assert distribution.support.check(first).all()
    assert distribution.sample(torch.Size((2, 3))).shape == (2, 3, 2, *distribution.event_shape)


@pytest.mark.parametrize("levels", [2, 3])
def test_coupled_colours_sum_to_one(levels):
    distribution = _mixture(3, levels, sites=(1, 1), components=4)
    values = torch.tensor(list(itertools.product(range(levels), repeat=3)))
    total = sum(distribution.log_prob(v.view(1, 3, 1, 1).expand(3, -1, -1, -1)).exp() for v in values)
    torch.testing.assert_close(total, torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-9)


def test_the_samples_of_coupled_colours_follow_the_joint():
    n, distribution = 8000, _mixture(3, 2, sites=(1, 1), components=4)
    many = _mixture(3, 2, sites=(1, 1), components=4, copies=n)
    samples = many.sample(generator=torch.Generator().manual_seed(0)).view(n, 3, 3)
    for value in itertools.product(range(2), repeat=3):
        v = torch.tensor(value)
        expected = distribution.log_prob(v.view(1, 3, 1, 1).expand(3, -1, -1, -1)).exp()
        observed = (samples == v).all(-1).double().mean(0)
        assert ((observed - expected).abs() <= 5 * (expected * (1 - expected) / n).sqrt()).all()


def test_later_channels_do_not_reach_earlier_ones():
    distribution = _mixture(3, 256)
    value = torch.randint(256, (3, 3, 2, 2), generator=torch.Generator().manual_seed(0))
    for c in range(3):
        changed = value.clone()
        changed[:, c + 1 :] = 255 - changed[:, c + 1 :]
        before, after = distribution.log_prob_per_dim(value), distribution.log_prob_per_dim(changed)
        assert torch.equal(before[:, : c + 1], after[:, : c + 1])
        if c < 2:
            assert not torch.equal(before[:, c + 1 :], after[:, c + 1 :])


def test_the_paper_couples_the_true_earlier_channels():
    """Written out for one pixel from eqs. (1)-(3): means of green and blue move with the values before."""
    distribution = _mixture(3, 256, sites=(1, 1), components=5)
    value = torch.tensor([40, 200, 90]).view(1, 3, 1, 1).expand(3, -1, -1, -1)
    red, green, blue = (2 * value[:, c, 0, 0].double() / 255 - 1 for c in range(3))
    parameters = distribution.parameters
    weights = torch.softmax(parameters.logits[:, :, 0, 0], 1)
    means = parameters.mean[..., 0, 0]
    coefficients, scales = parameters.coefficients[..., 0, 0], parameters.log_scale[..., 0, 0].exp()
    centres = (
        means[:, :, 0],
        means[:, :, 1] + coefficients[:, :, 0] * red[:, None],
        means[:, :, 2] + coefficients[:, :, 1] * red[:, None] + coefficients[:, :, 2] * green[:, None],
    )
    mass = weights
    for c, (channel, centre) in enumerate(zip((red, green, blue), centres, strict=True)):
        upper = torch.sigmoid((channel[:, None] + 1 / 255 - centre) / scales[:, :, c])
        lower = torch.sigmoid((channel[:, None] - 1 / 255 - centre) / scales[:, :, c])
        mass = mass * (upper - lower)
    torch.testing.assert_close(distribution.log_prob(value), mass.sum(1).log(), rtol=1e-5, atol=1e-5)


def test_log_prob_has_the_gradient_of_finite_differences():
    likelihood = make_likelihood("logistic_mixture", Space.image(3, 1, 1), components=2)
    generator = torch.Generator().manual_seed(0)
    parameters = torch.randn(2, likelihood.num_parameters, 1, 1, generator=generator, dtype=torch.float64)
    value = torch.tensor([[0, 128, 255], [7, 0, 200]]).view(2, 3, 1, 1)
    assert torch.autograd.gradcheck(lambda p: likelihood(p).log_prob(value), parameters.requires_grad_())
    assert torch.autograd.gradcheck(lambda p: likelihood(p).log_prob_per_dim(value), parameters)


def test_initial_outputs_are_broad_and_break_the_symmetry():
    for space in (Space.image(1, 2, 2), Space.image(3, 2, 2), Space.image(1, 2, 2, 17)):
        likelihood = make_likelihood("logistic_mixture", space, components=4)
        initial = likelihood.initial()
        assert initial.shape == (likelihood.num_parameters,)
        distribution = likelihood(initial.view(1, -1, 1, 1))
        assert distribution.parameters.mean[0, :, 0, 0, 0].unique().numel() == 4
        grey = torch.arange(space.levels).view(-1, 1, 1, 1).expand(-1, space.shape[0], 1, 1)
        worst = likelihood(initial.view(1, -1, 1, 1).expand(space.levels, -1, -1, -1)).log_prob(grey).min()
        assert -worst / space.shape[0] < math.log(space.levels) + 1.5


def test_half_precision_outputs_are_scored_in_float32():
    likelihood = make_likelihood("logistic_mixture", Space.image(1, 2, 2))
    parameters = torch.randn(2, likelihood.num_parameters, 2, 2).bfloat16()
    assert likelihood(parameters).log_prob_per_dim(torch.zeros(2, 1, 2, 2, dtype=torch.long)).dtype == torch.float32
    logits = torch.randn(2, 1, 2, 2).bfloat16()
    assert Bernoulli(logits).log_prob_per_dim(torch.zeros(2, 1, 2, 2, dtype=torch.long)).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_data_are_scored_under_several_draws_of_parameters_as_one_by_one(dtype):
    generator = torch.Generator().manual_seed(0)
    value = torch.randint(2, (3, 1, 4, 5), generator=generator)
    logits = torch.randn(2 * 3, 1, 4, 5, generator=generator).to(dtype)
    for kind, parameters in (
        (Bernoulli, logits),
        (Categorical, torch.stack([torch.zeros_like(logits), logits], dim=2)),
    ):
        together = kind(parameters).log_prob_of_draws(value, 2)
        alone = torch.stack([kind(part).log_prob(value) for part in parameters.chunk(2)])
        assert together.dtype == torch.float64
        torch.testing.assert_close(together, alone, rtol=1e-12, atol=0)
        other = kind(parameters).log_prob_of_draws(value.roll(1, 0), 2)
        assert (other - alone).abs().max() > 0.1, "another datum would be seen"
        with pytest.raises(ValueError, match="support"):
            kind(parameters).log_prob_of_draws(value + 1, 2)


def test_emission_is_the_expectation_over_binarizations():
    logits = torch.randn(1, 1, 1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    intensity = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64).view(1, 1, 1, 3)
    distribution, expected = EmissionBernoulli(logits), torch.zeros((), dtype=torch.float64)
    for bits in itertools.product(range(2), repeat=3):
        value = torch.tensor(bits).view(1, 1, 1, 3)
        chance = torch.where(value == 1, intensity, 1 - intensity).prod()
        expected = expected + chance * distribution.log_prob(value)[0]
    torch.testing.assert_close(distribution.expected_log_prob_per_dim(intensity).sum(), expected)
    for bad in (torch.tensor([[[[0, 1, 0]]]]), intensity + 0.5, intensity * torch.nan):
        with pytest.raises(ValueError, match="intensities"):
            distribution.expected_log_prob_per_dim(bad)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(1, 1, 2, 3, dtype=torch.long), "wanted"),
        (torch.zeros(1, 1, 2, 2), "integers"),
        (torch.full((1, 1, 2, 2), 2), "support"),
        (torch.full((1, 1, 2, 2), -1), "support"),
    ],
)
def test_values_outside_the_support_are_refused(value, message):
    for distribution in (Bernoulli(torch.zeros(1, 1, 2, 2)), UniformPixels(1, 1, torch.Size((2, 2)), 2)):
        with pytest.raises(ValueError, match=message):
            distribution.log_prob(value)


def test_uniform_pixels_in_every_view():
    distribution = UniformPixels(2, 3, torch.Size((4,)), 5)
    value = torch.randint(5, (2, 3, 4), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(distribution.log_prob(value), torch.full((2,), -12 * math.log(5), dtype=torch.float64))
    channel = distribution.channel(0, value[:, :0])
    torch.testing.assert_close(channel.log_prob(value[:, 0]).exp(), torch.full((2, 4), 0.2, dtype=torch.float64))
    torch.testing.assert_close(channel.probs().sum(-1), torch.ones(2, 4, dtype=torch.float64))
    torch.testing.assert_close(channel.cdf(value[:, 0]), (value[:, 0] + 1) / 5.0, check_dtype=False)
    assert (channel.cdf(value[:, 0] - 9) == 0).all()
    assert (channel.cdf(value[:, 0] + 9) == 1).all()
    draws = distribution.sample(torch.Size((2000,)), generator=torch.Generator().manual_seed(0))
    frequencies = torch.bincount(draws.flatten(), minlength=5) / draws.numel()
    assert ((frequencies - 0.2).abs() < 5 * math.sqrt(0.16 / draws.numel())).all()
    assert (distribution.sample(temperature=0) == 0).all()
    assert distribution.sample().shape == (2, 3, 4)


def test_unknown_likelihoods_options_and_misfits_are_refused():
    image = Space.image(1, 2, 2)
    with pytest.raises(UsageError, match="did you mean 'categorical'"):
        make_likelihood("categoricl", image)
    with pytest.raises(UsageError, match="did you mean 'components'"):
        make_likelihood("logistic_mixture", image, component=3)
    with pytest.raises(UsageError, match="at least 1"):
        make_likelihood("logistic_mixture", image, components=0)
    with pytest.raises(UsageError, match="2 levels"):
        make_likelihood("bernoulli", image)
    with pytest.raises(UsageError, match="dynamically"):
        make_likelihood("emission", Space.image(1, 2, 2, 2))
    with pytest.raises(ValueError, match="outputs a site"):
        make_likelihood("bernoulli", Space.image(1, 2, 2, 2))(torch.zeros(1, 2, 2, 2))
    with pytest.raises(NotImplementedError, match="batch"):
        Bernoulli(torch.zeros(1, 1, 2, 2)).expand((2,))


@pytest.mark.parametrize("channels", [1, 3])
def test_outputs_may_speak_of_a_part_of_the_range(channels):
    """With a span the mixture is the one of the whole range, moved and shrunk: coupling included, at the same data."""
    space = Space.image(channels, 1, 1, 65_536)
    likelihood = make_likelihood("logistic_mixture", space, components=2)
    generator = torch.Generator().manual_seed(0)
    parameters = torch.randn(1, likelihood.num_parameters, 1, 1, generator=generator, dtype=torch.float64)
    whole = likelihood(parameters)
    assert torch.equal(likelihood(parameters, torch.tensor([0.0, 1.0])).parameters.mean, whole.parameters.mean)
    # 1/64 of the range around level 9,000: a level there is 64 of the whole range's.
    half_range = 65_535 / 2
    part = likelihood(parameters, torch.tensor([9000 / half_range - 1, 1 / 64], dtype=torch.float64))
    x = torch.randint(-500, 501, (5, channels, 1, 1), generator=generator)
    at_part = part.log_prob(9000 + x)
    at_whole = whole.log_prob((half_range + 64 * x.double()).round().long())
    # Densities: the bin of a level is 64 times as wide in the part; levels round by half of 1/64.
    torch.testing.assert_close(at_part, at_whole + channels * math.log(64), rtol=0, atol=0.02)
    assert abs(part.channel(0, x[:1, :0]).probs().sum() - 1) < 1e-9
