"""The mathematics under the probes: e-values, annealing, references, orders."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from codelength import Space
from codelength.audit.annealing import anneal, level_moves, real_moves
from codelength.audit.density_totals import Broad, Cells, Gaussians
from codelength.audit.evidence import effective_fraction, log_mean, log_wealth, proves_excess
from codelength.audit.inputs import Inputs, all_data
from codelength.audit.order import schedule_order, topological_order, usual_orders, violations
from codelength.audit.reference import Chain, Flips, Histogram, Kernel, Reference, Uniform, moves
from codelength.audit.totals import enumerate_total, far_too_little, sampled_total
from codelength.models.autoregressive.base import raster_schedule


def test_wealth_is_an_e_value() -> None:
    """Ratios of mean 1: the wealth passes c with probability 1 / c at most (Ville)."""
    rng = np.random.default_rng(0)
    for sigma in (0.1, 1.0, 3.0):
        wealth = np.array([log_wealth(rng.normal(-(sigma**2) / 2, sigma, 200)) for _ in range(1000)])
        for c in (5, 20):
            share = (wealth >= math.log(c)).mean()
            assert share <= 1 / c + 3 * math.sqrt(1 / c / 1000)


def test_wealth_grows_where_the_mean_exceeds_one() -> None:
    rng = np.random.default_rng(1)
    sigma = 0.7
    ratios = rng.normal(math.log(1.3) - sigma**2 / 2, sigma, 3000)
    assert log_wealth(ratios) > math.log(1e5)
    assert proves_excess(ratios)
    assert log_wealth(np.array([])) == 0.0
    assert log_wealth(np.array([0.0, math.inf])) == math.inf


def test_effective_fraction() -> None:
    assert effective_fraction(np.zeros(10)) == pytest.approx(1.0)
    assert effective_fraction(np.array([0.0] + [-math.inf] * 9)) == pytest.approx(0.1)
    assert effective_fraction(np.full(3, -math.inf)) == 0.0


SPACE = Space.image(1, 1, 4, 5)
POINTS = np.random.default_rng(2).integers(5, size=(30, 4))


@pytest.mark.parametrize(
    "component",
    [
        Uniform(4, 5),
        Histogram(POINTS, 5),
        Chain(POINTS, 5),
        Flips(POINTS[:6], 5, 0.2),
        Kernel(POINTS[:6], moves(5, 1.0)),
        Reference.fit([POINTS], 5),
        Reference.plain(POINTS, 5),
    ],
    ids=lambda c: type(c).__name__,
)
def test_references_are_normalized_and_sample_what_they_score(component: Reference) -> None:
    everything = all_data(SPACE, 5**4)
    assert everything is not None
    x = everything.flatten(1).numpy()
    log_p = component.log_prob(x)
    assert float(logsumexp(log_p)) == pytest.approx(0.0, abs=1e-9)
    drawn = component.sample(4000, np.random.default_rng(3))
    entropy = -float((np.exp(log_p) * log_p).sum())
    scores = -component.log_prob(drawn)
    assert scores.mean() == pytest.approx(entropy, abs=5 * scores.std() / math.sqrt(4000) + 1e-9)


def test_annealing_is_unbiased_over_integers() -> None:
    everything = all_data(SPACE, 5**4)
    assert everything is not None
    weights = np.random.default_rng(4).normal(size=(4, 5))

    def log_p(x: np.ndarray) -> np.ndarray:
        return np.asarray(weights[np.arange(4), x].sum(1) + 0.3 * (x[:, 0] == x[:, 3]) * x[:, 1])

    truth = float(logsumexp(log_p(everything.flatten(1).numpy())))
    log_w, states = anneal(log_p, Uniform(4, 5), level_moves(5), chains=600, steps=60, rng=np.random.default_rng(5))
    error = float(np.exp(log_w - truth).std() / math.sqrt(600))
    assert math.exp(log_mean(log_w) - truth) == pytest.approx(1.0, abs=5 * error)
    assert states.shape == (600, 4)


@pytest.mark.parametrize("levels", [16, 64])
def test_level_moves_are_symmetric(levels: int) -> None:
    """From a to b as often as from b to a: the counts of signed steps on the circle are alike."""
    rng, move = np.random.default_rng(6), level_moves(levels)
    x = rng.integers(levels, size=(2000, 3))
    steps = np.concatenate([((move(x, rng) - x) % levels).ravel() for _ in range(20)])
    counts = np.bincount(steps, minlength=levels)
    for step in range(1, levels // 2):
        total = counts[step] + counts[levels - step]
        assert abs(counts[step] - counts[levels - step]) <= 5 * math.sqrt(total + 1)


def test_annealing_is_unbiased_over_reals() -> None:
    def log_p(y: np.ndarray) -> np.ndarray:
        return np.asarray(-0.5 * ((y - 5.0) ** 2).sum(1))

    truth = 1.5 * math.log(2 * math.pi)
    base = Broad(3, 0, 16)
    log_w, _ = anneal(log_p, base, real_moves(np.full(3, 4.0)), chains=400, steps=150, rng=np.random.default_rng(7))
    error = float(np.exp(log_w - truth).std() / math.sqrt(400))
    assert math.exp(log_mean(log_w) - truth) == pytest.approx(1.0, abs=5 * error)


def test_densities_to_compare_with_are_normalized() -> None:
    grid = np.linspace(-400, 400, 400_001)[:, None]
    points = np.random.default_rng(8).normal(3, 1, size=(50, 1))
    broad = Broad(1, 0, 8)
    cells = Cells(Reference([Uniform(1, 8), Histogram(np.array([[1], [5]]), 8)]), 0, 8)
    for density in (broad, cells, Gaussians(points, broad)):
        total = np.exp(density.log_prob(grid)).sum() * (grid[1, 0] - grid[0, 0])
        assert total == pytest.approx(1.0, abs=2e-3)
        assert density.sample(5, np.random.default_rng(0)).shape == (5, 1)


def test_totals_two_ways() -> None:
    inputs = Inputs(SPACE, 0)

    def doubled(x: torch.Tensor) -> torch.Tensor:
        return torch.full((len(x),), -4 * math.log(5) + math.log(2), dtype=torch.float64)

    exact = enumerate_total(doubled, inputs, 10_000, 10)
    assert exact is not None
    assert exact.log_value == pytest.approx(math.log(2))
    assert enumerate_total(doubled, inputs, 100, 10) is None
    sampled = sampled_total(doubled, inputs, [POINTS], seconds=5, name="t", anneal_steps=20)
    assert sampled.excess
    assert sampled.log_value == pytest.approx(math.log(2), abs=0.1)
    honest = sampled_total(lambda x: doubled(x) - math.log(2), inputs, [POINTS], seconds=5, name="t", anneal_steps=20)
    assert not honest.excess
    assert not far_too_little(honest, SPACE.uniform_nats, -8)
    tiny = sampled_total(lambda x: doubled(x) - 30, inputs, [POINTS], seconds=5, name="t", anneal_steps=20)
    assert far_too_little(tiny, SPACE.uniform_nats, -8)


def test_orders() -> None:
    chain = np.eye(5, k=-1, dtype=bool)
    assert topological_order(chain) == [0, 1, 2, 3, 4]
    assert topological_order(chain.T) == [4, 3, 2, 1, 0]
    assert topological_order(chain | np.eye(5, k=4, dtype=bool)) is None
    assert violations(chain, [0, 1, 2, 3, 4]) == 0
    assert violations(chain, [1, 0, 2, 3, 4]) == 1
    space = Space.image(3, 2, 2, 4)
    orders = usual_orders(space)
    assert orders["raster, channels inside a site"][:4] == [0, 4, 8, 1]
    assert orders["flat, backwards"][0] == 11
    assert schedule_order(raster_schedule(2, 2), space) == orders["raster, channels inside a site"]
    assert orders["column by column, channels inside a site"][:6] == [0, 4, 8, 2, 6, 10]


def test_inputs_depend_on_the_seed_alone() -> None:
    space = Space.image(1, 4, 4, 7, offset=-3)
    first, second, other = Inputs(space, 0), Inputs(space, 0), Inputs(space, 1)
    for name in ("everything", "noise", "mixed", "data"):
        a, b, c = (getattr(inputs, name)(6) for inputs in (first, second, other))
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
        space.validate(a)
    assert all_data(Space.image(1, 2, 2, 3), 80) is None
