import pytest
import torch

from codelength.data.registry import ENTRIES
from codelength.errors import UsageError
from codelength.models import registry
from codelength.models.base import num_parameters
from codelength.recipe import (
    first_difference,
    load_recipe,
    parse_overrides,
    parse_recipe,
    parse_yaml,
    shipped_recipes,
)
from codelength.space import Space

FIELDS = {"name": "r", "data": {"name": "digits"}, "model": {"system": "uniform"}}


def write(path, text):
    path.write_text(text)
    return path


def test_a_recipe_reads_back_what_it_wrote(tmp_path):
    recipe = parse_recipe({**FIELDS, "training": {"learning_rate": 2e-4, "betas": [0.95, 0.9995]}})
    again = load_recipe(write(tmp_path / "r.yaml", recipe.to_yaml()))
    assert again == recipe
    assert again.sha256() == recipe.sha256() != parse_recipe(FIELDS).sha256()


def test_name_defaults_to_the_file(tmp_path):
    path = write(tmp_path / "tiny.yaml", "data: {name: digits}\nmodel: {system: uniform}\n")
    assert load_recipe(path).name == "tiny"


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 1e-3), ("2.5E+4", 2.5e4), ("-.5e1", -5.0), ("e3", "e3"), ("7", 7), ("1e", "1e")]
)
def test_yaml_numbers_are_numbers(text, value):
    assert parse_yaml(text) == value
    assert type(parse_yaml(text)) is type(value)


def test_overrides_reach_options_and_groups_that_are_not_there(tmp_path):
    path = write(tmp_path / "r.yaml", "data: {name: digits}\nmodel: {system: uniform, options: null}\n")
    overrides = parse_overrides(["training.steps=7", "model.options.scale=1e-3", "training.clip_norm=null"])
    recipe = load_recipe(path, overrides)
    assert (recipe.training.steps, recipe.model.options, recipe.training.clip_norm) == (7, {"scale": 1e-3}, None)


@pytest.mark.parametrize("text", ["steps", "=3", "training..steps=3", "a=[1"])
def test_an_override_that_is_none_is_refused(text):
    with pytest.raises(UsageError, match="--set"):
        parse_overrides([text])


def test_an_override_inside_a_value_is_refused(tmp_path):
    path = write(tmp_path / "r.yaml", "data: {name: digits}\nmodel: {system: uniform}\n")
    with pytest.raises(UsageError, match="is a value, not a group"):
        load_recipe(path, {"data.name.x": 1})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {"step": 3}}, "did you mean 'training.steps'"),
        ({"modle": {}}, "did you mean 'model'"),
        ({"training": {"steps": 0}}, r"training\.steps: .*greater than or equal to 1 \(got 0\)"),
        ({"training": {"decay": "exponential"}}, "never reaches"),
        ({"training": {"betas": [0.9, 1.0]}}, "betas"),
        ({"training": 5}, "training: .*got 5"),
    ],
)
def test_a_wrong_key_or_value_is_named(changes, message):
    with pytest.raises(UsageError, match=message):
        parse_recipe({**FIELDS, **changes})


def test_a_missing_key_is_named():
    with pytest.raises(UsageError, match=r"data: Field required$"):
        parse_recipe({"name": "r", "model": {"system": "uniform"}})


def test_files_that_are_no_recipes_are_refused(tmp_path):
    for content in (b"a: [1", b"\xff\xfe\x00", b"- 1\n"):
        (tmp_path / "r.yaml").write_bytes(content)
        with pytest.raises(UsageError, match="recipe"):
            load_recipe(tmp_path / "r.yaml")
    with pytest.raises(UsageError, match="unknown recipe"):
        load_recipe("no-such-recipe")


def test_first_difference():
    a = parse_recipe(FIELDS)
    assert first_difference(a, parse_recipe({**FIELDS, "description": "another"})) is None
    b = parse_recipe({**FIELDS, "data": {"name": "digits", "options": {"seed": 1}}})
    assert first_difference(a, b) == ("data.options.seed", None, 1)
    assert first_difference(b, a) == ("data.options.seed", 1, None)


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_every_shipped_recipe_is_valid_and_builds(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description, "say what the recipe is, with its source"
    with torch.device("meta"):  # the model without its weights: the largest take no memory
        model = registry.build_model(recipe.model.system, space_of(recipe), **recipe.model.options)
    if recipe.published_parameters is not None:
        assert num_parameters(model) == pytest.approx(recipe.published_parameters, rel=0.01)


OWN_DATA = {
    "data/slices16": Space.image(1, 512, 512, 65_536),
    "data/fsdd/recordings": Space("audio", (1, 2048), 65_536, offset=-32_768),
    "data/webtext": Space("sequence", (1024,), 50_257),
    "data/pretraining/grey.npy": Space.image(1, 48, 48),
    "data/pretraining/rgb.npy": Space.image(3, 48, 48),
}
"""Recipes for the reader's own data: a path that --set data.name replaces, and what it is made for."""


def space_of(recipe):
    """The space that the recipe's data have, without the data."""
    if recipe.data.name in OWN_DATA:
        return OWN_DATA[recipe.data.name]
    entry = ENTRIES[recipe.data.name]
    if entry.kind == "sequence":
        return Space("sequence", (recipe.data.options.get("context", *entry.shape),), entry.levels)
    if entry.kind == "vector":
        return Space("vector", entry.shape, entry.levels)
    return Space("image", entry.shape, entry.levels, binarization=entry.binarization, conditions={"label": 10})
