"""A mixture with a coarser step for a part of the sites: every view of it is one distribution."""

from __future__ import annotations

import math

import pytest
import torch

from codelength.functional import MixtureLayout
from codelength.functional.common_step import common_bits, most_bits, trailing_zeros
from codelength.pixels import LogisticMixture, SteppedMixture

LEVELS = 37


@pytest.fixture
def parts():
    """Outputs, steps and logits of escape for 2 x 40 sites."""
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(2, 9, 40, generator=generator, dtype=torch.float64)
    outputs[:, 3:] = outputs[:, 3:].mul(0.7) - 0.5
    step = 2 ** torch.randint(0, most_bits(LEVELS) + 1, (2, 40), generator=generator)
    return outputs, step, torch.randn(2, 40, generator=generator, dtype=torch.float64)


def stepped(parts) -> SteppedMixture:
    outputs, step, escape = parts
    return SteppedMixture(outputs, MixtureLayout(1, 3, LEVELS, False), step, escape)


def test_masses_sum_to_one_and_all_views_agree(parts):
    distribution = stepped(parts)
    channel = distribution.channel(0, torch.zeros(2, 0, 40, dtype=torch.long))
    table = channel.probs()
    torch.testing.assert_close(table.sum(-1), torch.ones(2, 40, dtype=torch.float64))
    values = torch.arange(LEVELS)
    rows = [distribution.log_prob_per_dim(torch.full((2, 1, 40), int(v)))[:, 0] for v in values]
    torch.testing.assert_close(torch.stack(rows, dim=-1).exp(), table, atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(
        torch.stack([channel.log_prob(torch.full((2, 40), int(v))) for v in values], -1).exp(), table
    )
    cdf = torch.stack([channel.cdf(torch.full((2, 40), int(v))) for v in values], dim=-1)
    torch.testing.assert_close(cdf, table.cumsum(-1))
    assert (channel.cdf(torch.full((2, 40), -1)) == 0).all()


def test_off_the_step_only_the_escape_is_left(parts):
    """Values that are no multiple cost −ln ε more than the mixture without a step, and multiples of it cost less on average."""
    outputs, step, escape = parts
    plain = LogisticMixture(outputs, MixtureLayout(1, 3, LEVELS, False)).channel(0, torch.zeros(2, 0, 40))
    channel = stepped(parts).channel(0, torch.zeros(2, 0, 40, dtype=torch.long))
    for v in range(LEVELS):
        value = torch.full((2, 40), v)
        off = (v - LEVELS // 2) % step != 0
        wanted = plain.log_prob(value) + torch.nn.functional.logsigmoid(escape)
        torch.testing.assert_close(channel.log_prob(value)[off], wanted[off])
        alone = step == 1
        torch.testing.assert_close(channel.log_prob(value)[alone], plain.log_prob(value)[alone])
    on_step = (torch.arange(LEVELS) - LEVELS // 2) % step.unsqueeze(-1) == 0
    kept = (channel.probs() * on_step).sum(-1)
    assert (kept >= torch.sigmoid(-escape) - 1e-9).all()
    # The negative control: without the second mixture most mass lies off a wide step.
    assert (plain.probs() * on_step).sum(-1)[step >= 8].max() < 0.6


def test_draws_follow_the_masses(parts):
    outputs, step, escape = (part[:1, ..., :8].repeat(4000, *[1] * (part.ndim - 1)) for part in parts)
    drawn = stepped((outputs, step, escape)).sample(generator=torch.Generator().manual_seed(1))[:, 0]
    table = stepped(tuple(part[:1] for part in (outputs, step, escape))).channel(0, torch.zeros(1, 0, 8)).probs()[0]
    found = torch.nn.functional.one_hot(drawn, LEVELS).double().mean(0)
    error = (table * (1 - table) / len(drawn)).sqrt()
    assert ((found - table).abs() <= 5 * error + 1e-9).all()


def test_the_gradient_is_that_of_the_log_mass(parts):
    outputs, step, escape = parts
    value = torch.randint(0, LEVELS, (2, 1, 6), generator=torch.Generator().manual_seed(2))

    def total(outputs, escape):
        return SteppedMixture(outputs, MixtureLayout(1, 3, LEVELS, False), step[:, :6], escape).log_prob(value)

    own = outputs[..., :6].clone().requires_grad_(), escape[:, :6].clone().requires_grad_()
    assert torch.autograd.gradcheck(total, own)


def test_the_step_depends_on_earlier_samples_only():
    x = 4 * torch.randint(-5, 6, (3, 50), generator=torch.Generator().manual_seed(0))
    x[:, 30] = 1
    found = common_bits(x, 4, 10)
    assert (found[:, 12:31] >= 2).all()
    assert (found[:, 31:34] == 0).all()
    for t in (0, 7, 29, 30):
        changed = x.clone()
        changed[:, t:] = 1
        assert torch.equal(common_bits(changed, 4, 10)[:, : t + 1], found[:, : t + 1])
    plain = [[_gcd_bits([int(v) for v in row[:t] if v], 4) for t in range(50)] for row in x]
    assert found.tolist() == plain


def _gcd_bits(seen: list[int], count: int) -> int:
    if len(seen) < count:
        return 0
    return min(int(trailing_zeros(torch.tensor([v]))) for v in seen[-count:])


def test_draws_fall_into_bins_that_end_between_levels():
    # A step of 2 and a scale of half a level: bins [m − 1, m + 1) end in the middle of a level, on which a rounded draw could not tell.
    layout = MixtureLayout(1, 1, LEVELS, coupled=False)
    half_range = (LEVELS - 1) / 2
    outputs = torch.zeros(1, 3, 1, dtype=torch.float64)
    outputs[:, 1] = (LEVELS // 2 + 0.7 - half_range) / half_range
    outputs[:, 2] = math.log(0.5 / half_range)
    parts = outputs, torch.full((1, 1), 2), torch.full((1, 1), -30.0, dtype=torch.float64)
    table = SteppedMixture(parts[0], layout, *parts[1:]).channel(0, torch.zeros(1, 0, 1)).probs()[0, 0]
    many = (part.repeat(20_000, *[1] * (part.ndim - 1)) for part in parts)
    outputs, step, escape = many
    drawn = SteppedMixture(outputs, layout, step, escape).sample(generator=torch.Generator().manual_seed(1)).flatten()
    found = torch.nn.functional.one_hot(drawn, LEVELS).double().mean(0)
    error = (table * (1 - table) / len(drawn)).sqrt()
    assert ((found - table).abs() <= 5 * error + 1e-9).all()
