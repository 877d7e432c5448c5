"""Three binarizations, three data sets."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from codelength.data import DataSet, Split, load_data
from codelength.data.binarization import CHUNK, binarize, draw, intensities, threshold
from codelength.errors import UsageError
from codelength.space import Space


def test_the_three_differ_in_name_space_and_integers():
    sets = [load_data(f"digits-{how}") for how in ("static", "dynamic", "threshold")]
    assert [d.space.binarization for d in sets] == ["static", "dynamic", "threshold"]
    assert len({d.split("test").fingerprint() for d in sets}) == 3
    assert [d.split("train").intensity is not None for d in sets] == [False, True, False]
    for data in sets:
        assert (data.split("train").conditions["label"] == load_data("digits").split("train").conditions["label"]).all()


def test_a_draw_follows_the_intensities():
    grey = np.repeat(np.arange(17, dtype=np.uint8), 4000).reshape(17, 4000)
    drawn = draw(grey, 17, "test")
    share, p = drawn.mean(1), np.arange(17) / 16
    error = np.sqrt(p * (1 - p) / 4000)
    assert (np.abs(share - p) <= 5 * error).all()
    assert share[0] == 0
    assert share[16] == 1
    assert np.abs(draw(grey, 33, "test").mean(1) - p).max() > 0.3, "a wrong number of levels must show"


def test_intensities_and_threshold():
    grey = np.array([[0, 127, 128, 255]], dtype=np.uint8)
    assert intensities(grey, 256).dtype == np.float32
    assert intensities(grey, 256)[0].tolist() == pytest.approx([0, 127 / 255, 128 / 255, 1])
    assert threshold(grey, 256)[0].tolist() == [0, 0, 1, 1]
    assert threshold(np.array([[7, 8]], dtype=np.uint8), 17)[0].tolist() == [0, 1]


def test_dynamic_seeds_give_different_data_with_different_names():
    first, second = load_data("digits-dynamic"), load_data("digits-dynamic", seed=1)
    assert (first.name, second.name) == ("digits-dynamic", "digits-dynamic@seed=1")
    assert first.split("test").fingerprint() != second.split("test").fingerprint()
    assert (first.split("test").intensity == second.split("test").intensity).all()
    assert load_data("digits-dynamic@seed=1").split("test").fingerprint() == second.split("test").fingerprint()
    with pytest.raises(UsageError, match="unknown option"):
        load_data("digits-static", seed=1)


def test_draws_beyond_a_chunk_are_not_repeated():
    grey = np.full((2 * CHUNK, 8), 128, dtype=np.uint8)
    drawn = draw(grey, 256, "test")
    agreement = (drawn[:CHUNK] == drawn[CHUNK:]).mean()
    assert abs(agreement - 0.5) < 5 * math.sqrt(0.25 / drawn[:CHUNK].size)


def test_splits_have_draws_of_their_own():
    grey = np.full((50, 1, 4, 4), 8, dtype=np.uint8)
    data = DataSet("grey", Space.image(1, 4, 4, 17), {name: Split(grey) for name in ("train", "validation", "test")})
    drawn = [split.x for split in binarize(data, "static").splits.values()]
    assert all((a != b).any() for a, b in pairwise(drawn))


@pytest.mark.parametrize("space", [Space.image(3, 2, 2), Space.image(1, 2, 2, 2)])
def test_colour_and_binary_data_are_refused(space):
    with pytest.raises(UsageError, match="cannot be binarized"):
        binarize(DataSet("data", space, {}), "static")
