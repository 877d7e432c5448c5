"""Spaces: what a datum is, and what is none of it."""

from __future__ import annotations

import json

import pytest
import torch

from codelength.errors import SpaceMismatchError
from codelength.space import Space


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "film"}, "known kinds"),
        ({"shape": (3, 4)}, "wanted 3 positive sizes"),
        ({"shape": (3, 0, 4)}, "positive sizes"),
        ({"levels": 1}, "at least 2"),
        ({"binarization": "dynamic"}, "2 levels"),
        ({"binarization": "random", "levels": 2}, "wanted one of"),
    ],
)
def test_impossible_spaces(fields, message):
    with pytest.raises(ValueError, match=message):
        Space(**({"kind": "image", "shape": (3, 4, 4), "levels": 256} | fields))


def test_open_sizes_have_no_count_but_match_any_data():
    space = Space.image(3, None, None)
    with pytest.raises(ValueError, match="leaves a size open"):
        space.num_dims
    with pytest.raises(ValueError, match="leaves a size open"):
        space.sizes
    assert space.validate(torch.zeros(2, 3, 5, 7, dtype=torch.uint8)).dtype == torch.int64
    assert Space("sequence", (9,), 256).sizes == (9,)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 1, 2, 2), "wanted integers 0..4"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.bool), "wanted integers"),
        (torch.zeros(2, 1, 2, 3, dtype=torch.long), "1 x 2 x 3; the model wants 1 x 2 x 2"),
        (torch.zeros(2, 4, dtype=torch.long), "wants 1 x 2 x 2"),
        (torch.full((2, 1, 2, 2), 5), "reach 5..5 but the model has 5 levels"),
        (torch.full((2, 1, 2, 2), -1), "reach -1..-1"),
    ],
)
def test_data_that_do_not_fit(x, message):
    with pytest.raises(SpaceMismatchError, match=message):
        Space.image(1, 2, 2, levels=5).validate(x)


def test_signed_data_and_empty_batches_fit():
    space = Space("audio", (1, 3), 16, offset=-8)
    x = torch.tensor([[[-8, 0, 7]]])
    assert torch.equal(space.validate(x), x)
    assert len(space.validate(torch.zeros(0, 1, 3, dtype=torch.int16))) == 0


def test_json_round_trip():
    space = Space.image(4, 8, None, 65536, channels=("red", "green", "blue", "alpha"), conditions={"label": 10})
    assert Space.from_json(json.loads(json.dumps(space.to_json()))) == space
    binary = Space.image(1, 4, 4).with_binarization("static")
    assert (binary.levels, binary.binarization) == (2, "static")
