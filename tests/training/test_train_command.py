import pytest

from codelength.cli.main import main

pytestmark = pytest.mark.usefixtures("toy_systems")
RECIPE = """
description: A table for a test.
data: {name: digits}
model: {system: toy_fitted}
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return str(path)


def test_data_on_stdout_and_talk_on_stderr(recipe, capsys):
    assert main(["train", recipe, "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    assert out == "runs/tiny\n"
    assert "bits/dim on validation data with the raw weights of step 1" in err
    assert main(["train", recipe]) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert main(["train", "--resume", "--out", "runs/tiny", "--quiet"]) == 0
    assert capsys.readouterr() == ("runs/tiny\n", "")


def test_values_are_yaml_and_wrong_keys_name_the_nearest(recipe, capsys):
    command = [
        "train",
        recipe,
        "--set",
        "model.system=mean_field",
        "--set",
        "training.steps=2",
        "--set",
        "training.learning_rate=1e-2",
    ]
    assert main([*command, "--out", "a", "--overfit", "3"]) == 0
    _, err = capsys.readouterr()
    assert "memorization floor of 1.58 (log2 of 3 data)" in err
    assert "on the training data" in err
    assert main(["train", recipe, "--set", "training.stesp=2"]) == 2
    assert "did you mean 'training.steps'?" in capsys.readouterr().err
    assert main(["train", "--resume"]) == 2
    assert "give a RECIPE" in capsys.readouterr().err
    assert main(["train", "--resume", "--out", "nothing"]) == 2
    assert "is no run" in capsys.readouterr().err


def test_a_wrong_model_option_leaves_no_run_behind(recipe, tmp_path, capsys):
    command = ["train", recipe, "--out", "run", "--set", "model.system=mean_field", "--set", "training.steps=1"]
    assert main([*command, "--set", "model.options.componets=3"]) == 2
    assert "did you mean 'components'?" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert main([*command, "--set", "model.options.components=3"]) == 0


def test_recipes_are_listed(tmp_path, monkeypatch, capsys):
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    monkeypatch.setattr("codelength.recipe.RECIPE_FOLDER", tmp_path)
    assert main(["train", "--list"]) == 0
    assert capsys.readouterr().out == "tiny  A table for a test.\n"
