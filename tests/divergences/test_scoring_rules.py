"""Scoring rules are proper, one is not; the identities hold."""

import math

import numpy as np
import pytest
import torch

from codelength import perplexity
from codelength.divergences import identities, scoring_rules, tables
from codelength.divergences.planar import planar_density
from codelength.errors import UsageError

BELIEF = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
OUTCOMES = torch.arange(3)


def forecasts(count=300):
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).softmax(1) ** 3


def expected(rule, q):
    return float(BELIEF @ rule(q, OUTCOMES))


@pytest.mark.parametrize("rule", [scoring_rules.log_score, scoring_rules.brier])
def test_proper_rules_reward_the_belief_itself(rule):
    best = expected(rule, BELIEF)
    for q in forecasts():
        q = q / q.sum()
        assert expected(rule, q) > best


def test_the_linear_rule_is_improper():
    assert expected(scoring_rules.linear, torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)) < expected(
        scoring_rules.linear, BELIEF
    )


def test_excess_of_a_proper_rule_is_its_divergence():
    q = torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64)
    excess = expected(scoring_rules.log_score, q) - expected(scoring_rules.log_score, BELIEF)
    assert excess == pytest.approx(float(tables.kl(BELIEF, q)))
    excess = expected(scoring_rules.brier, q) - expected(scoring_rules.brier, BELIEF)
    assert excess == pytest.approx(float(tables.bregman(BELIEF, q, "squared")))


def test_brier_agrees_with_scikit_learn():
    from sklearn.metrics import brier_score_loss

    q, x = np.array([0.1, 0.7, 0.4]), np.array([0, 1, 1])
    table = torch.tensor(np.column_stack([1 - q, q]))
    assert float(scoring_rules.brier(table, torch.tensor(x)).mean()) / 2 == pytest.approx(brier_score_loss(x, q))


@pytest.mark.parametrize("rule", [scoring_rules.crps_gaussian, scoring_rules.hyvarinen_gaussian])
def test_rules_of_real_outcomes_are_proper(rule):
    x = torch.randn(100_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    one, zero = torch.tensor(1.0, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)
    best = float(rule(zero, one, x).mean())
    for mean, std in ((0.3, 1.0), (-0.3, 1.0), (0.0, 0.7), (0.0, 1.5)):
        assert float(rule(zero + mean, one * std, x).mean()) > best + 1e-3


def test_crps_of_a_gaussian_is_its_integral_and_that_of_its_draws():
    import scipy.integrate
    import scipy.stats

    mean, std, x = 0.4, 1.7, torch.tensor([1.1], dtype=torch.float64)
    wanted = scipy.integrate.quad(
        lambda t: (scipy.stats.norm.cdf(t, mean, std) - (t >= 1.1)) ** 2, -15, 15, points=[1.1]
    )[0]
    found = scoring_rules.crps_gaussian(torch.tensor(mean), torch.tensor(std), x)
    assert float(found) == pytest.approx(wanted, rel=1e-6)
    draws = mean + std * torch.randn(40_000, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert float(scoring_rules.crps_samples(draws, x)) == pytest.approx(wanted, abs=0.03)
    few = draws[:5]
    spread = (few - few.T).abs().sum() / 20
    assert float(scoring_rules.crps_samples(few, x)) == pytest.approx(float((few - x).abs().mean() - spread / 2))
    with pytest.raises(UsageError):
        scoring_rules.crps_samples(draws[:1], x)


def test_cross_entropy_is_entropy_plus_kl_and_the_entropy_cancels():
    generator = torch.Generator().manual_seed(3)
    p, a, b = (torch.rand(20, generator=generator, dtype=torch.float64).softmax(0) for _ in range(3))
    assert float(tables.cross_entropy(p, a)) == pytest.approx(float(tables.entropy(p) + tables.kl(p, a)), rel=1e-12)
    exact = float(tables.cross_entropy(p, a) - tables.cross_entropy(p, b))
    assert exact == pytest.approx(float(tables.kl(p, a) - tables.kl(p, b)), rel=1e-9)
    x = torch.multinomial(p, 50_000, replacement=True, generator=generator)
    costs = -a.log()[x], -b.log()[x]
    error = float((costs[0] - costs[1]).std()) / math.sqrt(50_000)
    assert identities.kl_difference(*costs) == pytest.approx(exact, abs=4 * error)
    with pytest.raises(UsageError):
        identities.kl_difference(costs[0], costs[1][1:])


def test_squared_error_is_the_code_length_of_a_gaussian():
    generator = torch.Generator().manual_seed(4)
    mean, x = torch.randn(2, 6, 5, generator=generator, dtype=torch.float64)
    errors = (x - mean).square().sum(1)
    lengths = identities.code_length_of_squared_error(errors, 0.7, 5)
    torch.testing.assert_close(lengths, -torch.distributions.Normal(mean, 0.7).log_prob(x).sum(1))
    torch.testing.assert_close(identities.squared_error_of_code_length(lengths, 0.7, 5), errors)
    best = identities.best_spread(errors, 5)
    cost = [float(identities.code_length_of_squared_error(errors, s * best, 5).mean()) for s in (0.9, 1.0, 1.1)]
    assert cost[1] == min(cost)


def test_memorization_floor():
    from codelength.evaluation import memorization_floor

    train = torch.arange(16)
    knows = torch.full((16,), 1 / 16, dtype=torch.float64)
    assert identities.memorization_gap(train, knows) == pytest.approx(0.0, abs=1e-12)
    assert float(-knows.log()[train].mean()) / math.log(2) == pytest.approx(memorization_floor(16))
    generator = torch.Generator().manual_seed(5)
    for _ in range(20):
        q = torch.rand(16, generator=generator, dtype=torch.float64).softmax(0)
        assert float(-q.log()[train].mean()) / math.log(2) >= memorization_floor(16)
        assert identities.memorization_gap(train, q) > 0


def test_perplexity_is_exp_of_cross_entropy():
    p = torch.full((4,), 0.25, dtype=torch.float64)
    assert perplexity(10 * float(tables.cross_entropy(p, p)), 10) == pytest.approx(4.0)


def test_a_mixture_with_99_percent_noise_is_at_most_4_61_nats_worse_and_its_samples_are_noise():
    density = planar_density("eight_gaussians")
    generator = torch.Generator().manual_seed(6)
    x = density.sample(2000, generator)
    reach = 20.0
    log_noise = torch.full((2000,), -2 * math.log(2 * reach), dtype=torch.float64)
    loss = density.log_prob(x) - identities.log_mixture(density.log_prob(x), log_noise)
    assert float(loss.max()) <= math.log(100)
    assert 4.0 < float(loss.mean()) <= math.log(100)
    good = torch.rand(2000, generator=generator) < 0.01
    noise = (2 * torch.rand(2000, 2, generator=generator, dtype=torch.float64) - 1) * reach
    drawn = torch.where(good[:, None], x, noise)
    plausible = density.log_prob(drawn) > density.log_prob(x).quantile(0.01)
    assert float(plausible.double().mean()) < 0.03
    with pytest.raises(UsageError):
        identities.log_mixture(log_noise, log_noise, 1.0)
