"""Splits by content: shares, duplicates, seeds; orders that no library version changes."""

from __future__ import annotations

import numpy as np
import pytest

from codelength.data.splitting import count_duplicates, split_by_content, stable_order, stable_random, stable_uniform
from codelength.errors import UsageError

# Philox with the key derive_seed("digits"): a change here means that every split changes.
STREAM = [2424602329335980772, 826764885791560491]


def test_streams_are_those_stored_here():
    assert stable_random(2, "digits").tolist() == [STREAM[0], STREAM[1]]
    assert sorted(stable_order(100, "a")) == list(range(100))
    assert stable_order(100, "a").tolist() != stable_order(100, "b").tolist()
    u = stable_uniform((50_000,), "u")
    assert 0 <= u.min() < u.max() < 1
    assert abs(u.mean() - 0.5) < 5 / np.sqrt(12 * len(u))


def test_shares_and_order():
    x = np.arange(100, dtype=np.uint8)[:, None]
    parts = split_by_content(x, 0.2, 0.1, 0)
    assert {name: len(i) for name, i in parts.items()} == {"train": 70, "validation": 20, "test": 10}
    assert sorted(np.concatenate(list(parts.values()))) == list(range(100))
    assert all((np.diff(i) > 0).all() for i in parts.values())
    assert split_by_content(x, 0.2, 0.1, 1)["test"].tolist() != parts["test"].tolist()


def test_duplicates_never_straddle_and_order_changes_nothing(noise):
    x = noise((40, 3), 256).repeat(5, axis=0)
    order = np.random.default_rng(0).permutation(len(x))
    first, second = split_by_content(x, 0.2, 0.2, 0), split_by_content(x[order], 0.2, 0.2, 0)
    counts = count_duplicates({name: x[i] for name, i in first.items()})
    assert [counts[pair] for pair in counts if " in " in pair] == [0, 0, 0]
    for name in first:
        assert {r.tobytes() for r in x[first[name]]} == {r.tobytes() for r in x[order][second[name]]}
    # Negative control: a split by place does separate duplicates.
    by_place = count_duplicates({"train": x[:102], "test": x[102:]})
    assert by_place["test in train"] == 3


def test_content_is_the_integers_not_their_type():
    x = np.arange(30).reshape(10, 3)
    a, b = (split_by_content(x.astype(t), 0.3, 0.3, 0) for t in (np.uint8, np.uint16))
    assert all((a[name] == b[name]).all() for name in a)


@pytest.mark.parametrize(("validation", "test"), [(-0.1, 0.1), (0.5, 0.5), (0.1, 1.2)])
def test_impossible_shares_are_refused(validation, test):
    with pytest.raises(UsageError, match="add up to less than 1"):
        split_by_content(np.zeros((3, 1), np.uint8), validation, test, 0)
