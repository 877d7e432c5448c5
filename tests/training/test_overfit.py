import json

import numpy as np
import pytest

from codelength.data.dataset import DataSet, Split
from codelength.errors import UsageError
from codelength.space import Space
from codelength.training import train
from codelength.training.overfit import memorization_floor

pytestmark = pytest.mark.usefixtures("toy_systems")


@pytest.fixture
def distinct():
    """Twelve different 2 x 2 images of two levels; 16 are possible."""
    codes = np.random.default_rng(1).permutation(16)[:12]
    x = (codes[:, None] >> np.arange(4) & 1).astype(np.uint8).reshape(12, 1, 2, 2)
    return DataSet("distinct", Space.image(1, 2, 2, levels=2), {"train": Split(x, intensity=x * 0.5 + 0.25)})


def overfit(recipe, data, out, count=8):
    run = train(recipe, out, data=data, overfit=count, progress=False, device="cpu")
    return run, json.loads((out / "overfit.json").read_text())


def test_floor_is_the_entropy_of_the_data():
    x = np.arange(64, dtype=np.uint8).reshape(64, 1, 1, 1)
    assert memorization_floor(x) == 6.0
    assert memorization_floor(np.concatenate([x, x])) == 6.0
    assert memorization_floor(np.zeros((5, 2))) == 0.0


def test_a_table_memorizes(make_recipe, distinct, tmp_path):
    recipe = make_recipe("toy_table", steps=150, learning_rate=0.3, horizontal_flip=True, ema_decay=0.9)
    run, found = overfit(recipe, distinct, tmp_path)
    assert (found["outcome"], found["floor_bits"], found["kind"], found["num_examples"]) == (
        "memorizes",
        3.0,
        "exact",
        8,
    )
    assert 0 <= found["gap_bits"] < 0.1
    assert "the model memorizes" in found["verdict"]
    assert (run.recipe.training.batch_size, run.recipe.training.horizontal_flip) == (8, False)
    assert {line["split"] for line in run.metrics()} == {"train", "overfit", "end"}


def test_independent_pixels_lack_expressivity(make_recipe, tmp_path):
    x = np.array([[0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]], dtype=np.uint8).reshape(3, 1, 2, 2)
    data = DataSet("black or white", Space.image(1, 2, 2, levels=2), {"train": Split(x)})
    recipe = make_recipe("mean_field", {"pixels": "bernoulli"}, steps=100, learning_rate=0.2)
    _, found = overfit(recipe, data, tmp_path, count=3)
    assert found["outcome"] == "expressivity"
    entropy = np.log2(3) - 2 / 3  # of one pixel, and of a datum: the model pays for each pixel anew
    assert found["floor_bits"] == pytest.approx(entropy)
    assert found["bits_per_datum"] == pytest.approx(4 * entropy, abs=1e-3)
    assert found["gap_bits"] == pytest.approx(3 * entropy, abs=1e-3)


def test_too_few_steps_are_a_failure_of_optimization(make_recipe, distinct, tmp_path):
    _, found = overfit(make_recipe("toy_table", steps=30, learning_rate=1e-4), distinct, tmp_path, count=4)
    assert found["outcome"] == "optimization"
    assert found["gap_bits"] > 1
    assert found["gradient_ratio"] > 0.5


def test_a_bound_is_marked_and_closed_forms_are_judged(make_recipe, distinct, tmp_path):
    _, found = overfit(make_recipe("toy_vae", steps=20), distinct, tmp_path / "vae")
    assert found["kind"] == "bound"
    assert found["verdict"].startswith("<= ")
    _, found = overfit(make_recipe("toy_fitted"), distinct, tmp_path / "fitted", count=5)
    assert (found["outcome"], found["gradient_ratio"]) == ("expressivity", 0.0)


def test_resume_gives_the_verdict_that_was_not_reached(make_recipe, distinct, tmp_path, capsys):
    recipe = make_recipe("toy_table")
    _, found = overfit(recipe, distinct, tmp_path)
    (tmp_path / "overfit.json").unlink()
    train(recipe, tmp_path, data=distinct, overfit=8, resume=True, device="cpu")
    assert json.loads((tmp_path / "overfit.json").read_text()) == found
    assert found["verdict"] in capsys.readouterr().err


@pytest.mark.parametrize("count", [0, 13])
def test_as_many_data_as_there_are(make_recipe, distinct, tmp_path, count):
    with pytest.raises(UsageError, match="wanted 1 to 12"):
        overfit(make_recipe("toy_table"), distinct, tmp_path, count)
