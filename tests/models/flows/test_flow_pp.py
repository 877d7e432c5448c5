"""Flow++: its options, its parameter count; what holds of all flows is in test_flows.py."""

from __future__ import annotations

import pytest
import torch

from codelength.errors import UsageError
from codelength.models.base import num_parameters
from codelength.models.registry import build_model
from codelength.recipe import load_recipe
from codelength.space import Space
from codelength.transforms import UniformDequantization, VariationalDequantization


def test_the_papers_cifar10_model_has_the_published_number_of_parameters() -> None:
    recipe = load_recipe("cifar10-flow_pp-paper")
    with torch.device("meta"):
        model = build_model("flow_pp", Space.image(3, 32, 32), **recipe.model.options)
    assert recipe.published_parameters == 31_443_440
    assert abs(num_parameters(model) / recipe.published_parameters - 1) < 0.01
    noise, density = num_parameters(model.dequantizer), num_parameters(model.density)
    assert (noise, density) == (3_451_480, 28_000_632)


def test_the_first_batch_sets_every_scale(random_data) -> None:
    space = Space.image(1, 4, 8, 5)
    model = build_model("flow_pp", space, filters=4, blocks=1, components=2, heads=2, noise_blocks=1)
    model.initialize(random_data(space, 64), torch.Generator().manual_seed(0))
    flags = {name: bool(value) for name, value in model.named_buffers() if name.endswith("initialized")}
    assert len(flags) > 50
    assert all(flags.values())


def test_dequantization_is_chosen_by_name() -> None:
    space = Space.image(1, 4, 4)
    kinds = {"variational": VariationalDequantization, "uniform": UniformDequantization}
    for name, kind in kinds.items():
        model = build_model("flow_pp", space, dequantization=name, filters=4, blocks=1, components=2)
        assert isinstance(model.dequantizer, kind)


def test_impossible_options_are_named() -> None:
    for space, options, message in (
        (Space.image(1, 4, 6), {}, "one of 4"),
        (Space("vector", (4,), 3), {}, "wanted an image"),
        (Space.image(1, 4, 4), {"filters": 6}, "multiple of the heads"),
        (Space.image(1, 4, 4), {"couplings": [1, 2]}, "three numbers"),
        (Space.image(1, 4, 4), {"dequantization": "varational"}, "did you mean 'variational'"),
    ):
        with pytest.raises(UsageError, match=message):
            build_model("flow_pp", space, **options)
