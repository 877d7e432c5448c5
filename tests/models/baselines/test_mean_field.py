"""Mean field: independent sites, and the expectation over binarizations."""

from __future__ import annotations

import pytest
import torch

from codelength import Space, build_model
from codelength.errors import UsageError
from codelength.models.base import can


def test_sites_are_independent_and_their_own(randomize):
    model = randomize(build_model("mean_field", Space.image(1, 3, 3, 5), pixels="categorical").double())
    x = torch.randint(5, (2, 1, 3, 3), generator=torch.Generator().manual_seed(0))
    per_dim = model.conditionals(x).log_prob_per_dim(x)
    changed = x.clone()
    changed[:, :, 1, 1] = 4 - changed[:, :, 1, 1]
    moved = model.conditionals(changed).log_prob_per_dim(changed) != per_dim
    assert not moved[:, :, torch.arange(3) != 1].any()
    assert model.conditionals(x).channel(0, x[:, :0]).probs()[0].flatten(0, 1).unique(dim=0).shape[0] == 9


def test_trains_to_the_histogram_of_each_position():
    """A categorical mean field at its optimum is the table of frequencies: the code length is their entropy."""
    model = build_model("mean_field", Space.image(1, 2, 2, 3), pixels="categorical").double()
    x = torch.randint(3, (60, 1, 2, 2), generator=torch.Generator().manual_seed(0)).clamp(max=2)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=60)

    def closure():
        optimizer.zero_grad()
        loss = -model.log_prob(x).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    frequencies = torch.stack([(x == level).double().mean(0) for level in range(3)])
    entropy = -(frequencies * frequencies.log()).sum()
    torch.testing.assert_close(-model.log_prob(x).mean().detach(), entropy, rtol=1e-6, atol=1e-6)


def test_emission_expects_over_binarizations(randomize):
    space = Space.image(1, 3, 3, 2).with_binarization("dynamic")
    model = randomize(build_model("mean_field", space, pixels="emission").double())
    generator = torch.Generator().manual_seed(0)
    intensity = torch.rand(1, 1, 3, 3, generator=generator, dtype=torch.float64)
    draws = (torch.rand(20_000, 1, 3, 3, generator=generator, dtype=torch.float64) < intensity).long()
    with torch.no_grad():
        scores, expected = model.log_prob(draws), model.expected_log_prob(intensity)
    assert abs(scores.mean() - expected) < 5 * scores.std() / len(draws) ** 0.5
    # For binary intensities nothing is random.
    torch.testing.assert_close(model.expected_log_prob(draws[:5].double()), model.log_prob(draws[:5]))


def test_only_emission_has_the_expectation():
    assert not can(build_model("mean_field", Space.image(1, 2, 2, 2)), "expected_log_prob")
    with pytest.raises(UsageError, match="dynamic"):
        build_model("mean_field", Space.image(1, 2, 2, 2), pixels="emission")
    with pytest.raises(UsageError, match="components"):
        build_model("mean_field", Space.image(1, 2, 2, 2), components=3)
