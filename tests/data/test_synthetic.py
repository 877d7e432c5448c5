"""Synthetic data: exact entropies against enumeration, draws against masses."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from codelength.data import load_data
from codelength.data.synthetic import Potts, entropy_nats, full_rank_table, sample_table
from codelength.errors import UsageError


def enumerated(side, levels, coupling):
    x = np.array(list(itertools.product(range(levels), repeat=side * side))).reshape(-1, side, side)
    equal = (x[:, 1:] == x[:, :-1]).sum((1, 2)) + (x[:, :, 1:] == x[:, :, :-1]).sum((1, 2))
    weights = np.exp(coupling * equal)
    return weights / weights.sum(), equal


def test_potts_entropy_and_draws_are_those_of_the_enumerated_lattice():
    masses, equal = enumerated(3, 3, 0.7)
    lattice = Potts(3, 3, 0.7)
    assert lattice.entropy_nats() == pytest.approx(entropy_nats(masses), abs=1e-9)
    x = lattice.sample(20_000, np.random.default_rng(0))
    found = (x[:, 1:] == x[:, :-1]).sum((1, 2)) + (x[:, :, 1:] == x[:, :, :-1]).sum((1, 2))
    mean = (masses * equal).sum()
    error = math.sqrt((masses * (equal - mean) ** 2).sum() / 20_000)
    assert abs(found.mean() - mean) < 5 * error
    assert abs((enumerated(3, 3, 0.0)[0] * equal).sum() - mean) > 50 * error


def test_full_rank_tables_are_distributions_that_do_not_factorize():
    table = full_rank_table(2, 10)
    assert table.sum() == pytest.approx(1)
    assert np.linalg.matrix_rank(table) == 10
    marginals = entropy_nats(table.sum(0)) + entropy_nats(table.sum(1))
    assert marginals > entropy_nats(table) + 0.1
    drawn = sample_table(table, 50_000, np.random.default_rng(0))
    counts = np.zeros_like(table)
    np.add.at(counts, tuple(drawn.T), 1 / 50_000)
    assert np.all(np.abs(counts - table) < 5 * np.sqrt(table / 50_000) + 1e-4)


def test_sums_are_right():
    x = load_data("addition", digits=4).split("test").x.reshape(-1, 13).astype(int)
    a, b, c = ((x[:, i:12:3] * 10 ** np.arange(4)).sum(1) for i in range(3))
    assert np.array_equal(a + b, c + 10_000 * x[:, 12])


def test_seeds_and_sizes():
    assert load_data("full_rank@dims=3,levels=4").space.shape == (1, 1, 3)
    one, same, other = (load_data("potts", side=3, seed=s).split("test").x for s in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    for call in (lambda: full_rank_table(9, 10), lambda: Potts(9, 3, 1.0), lambda: load_data("addition", digits=0)):
        with pytest.raises(UsageError):
            call()
