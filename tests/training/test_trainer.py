import json
import math

import numpy as np
import pytest
import torch

from codelength.data.dataset import DataSet, Split
from codelength.errors import CheckpointError, SpaceMismatchError, TrainingError, UsageError
from codelength.run import load_tensors
from codelength.space import Space
from codelength.training import checkpoint, loop, train

pytestmark = pytest.mark.usefixtures("toy_systems")
TIMES = ("seconds", "cpu_seconds", "images_per_second", "peak_memory_mib")


def go(recipe, out, data, **options):
    return train(recipe, out, data=data, progress=False, device="cpu", **options)


def without_times(run):
    return [{k: v for k, v in line.items() if k not in TIMES} for line in run.metrics()]


def same_weights(a, b):
    ours, theirs = (load_tensors(run.path / "model.safetensors") for run in (a, b))
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_it_learns_and_keeps_the_best_on_validation_data(make_recipe, two_levels, tmp_path):
    recipe = make_recipe(
        "toy_table", steps=100, learning_rate=0.1, ema_decay=0.9, clip_norm=1.0, validation_examples=30
    )
    run = go(recipe, tmp_path / "run", two_levels)
    lines = run.metrics()
    train_lines = [line for line in lines if line["split"] == "train"]
    validation = [line for line in lines if line["split"] == "validation"]
    assert (len(train_lines), len(validation), lines[-1]["split"]) == (50, 10, "end")
    assert train_lines[0]["bits_per_dim"] == pytest.approx(1, abs=0.05)
    entropy = sum(-p * math.log2(p) - (1 - p) * math.log2(1 - p) for p in (0.9, 0.1, 0.5, 0.7)) / 4
    assert abs(train_lines[-1]["bits_per_dim"] - entropy) < 0.15
    best = min(validation, key=lambda line: line["nats"])
    record = json.loads((run.path / "weights.json").read_text())
    assert (record["step"], record["weights"], run.weights) == (best["step"], "ema", "ema")
    assert lines[-1]["nats"] == best["nats"]
    assert lines[-1]["parameters"] == 16
    kept = run.load_model()
    assert best["step"] < 100 or torch.equal(kept.logits, load_state(run)["ema"]["logits"])
    assert run.recipe == recipe


def load_state(run):
    return checkpoint.load_checkpoint(run.path / "state")[0].tensors


def test_same_seed_same_run_and_another_seed_another(make_recipe, two_levels, tmp_path):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    a = go(make_recipe("toy_vae", ema_decay=0.9), tmp_path / "a", two_levels)
    assert torch.equal(torch.random.get_rng_state(), before)  # the caller's randomness is left alone
    assert not torch.are_deterministic_algorithms_enabled()
    torch.manual_seed(4)
    b = go(make_recipe("toy_vae", ema_decay=0.9), tmp_path / "b", two_levels)
    c = go(make_recipe("toy_vae", ema_decay=0.9, seed=1), tmp_path / "c", two_levels)
    assert same_weights(a, b)
    assert without_times(a) == without_times(b)
    assert not same_weights(a, c)
    assert load_tensors(a.path / "model.safetensors")["initialized"]


@pytest.mark.parametrize("optimizer", ["adamw", "adamax", "muon"])
def test_stopped_and_resumed_is_as_if_never_stopped(make_recipe, two_levels, tmp_path, monkeypatch, optimizer):
    recipe = make_recipe("toy_vae", steps=23, checkpoint_every=6, validate_every=7, ema_decay=0.9, optimizer=optimizer)
    whole = go(recipe, tmp_path / "whole", two_levels)
    stopped = stop_at(17, recipe, tmp_path / "stopped", two_levels, monkeypatch)
    assert [path.name for path in (stopped / "state").iterdir()] == ["step-00000012"]
    run = go(recipe, stopped, two_levels, resume=True)
    assert same_weights(whole, run)
    assert without_times(whole) == without_times(run)
    assert (whole.path / "weights.json").read_text() == (run.path / "weights.json").read_text()


def stop_at(step, recipe, out, data, monkeypatch, **options):
    original = loop.Loop._train_step

    def stop(self):
        if self.step == step:
            raise KeyboardInterrupt
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "_train_step", stop)
        with pytest.raises(KeyboardInterrupt):
            go(recipe, out, data, **options)
    return out


def test_resuming_what_is_complete_does_nothing(make_recipe, two_levels, tmp_path):
    recipe = make_recipe("toy_logistic")
    run = go(recipe, tmp_path, two_levels)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert go(recipe, tmp_path, two_levels, resume=True) == run
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


def test_resuming_nothing_starts(make_recipe, two_levels, tmp_path):
    recipe = make_recipe("toy_logistic")
    run = go(recipe, tmp_path / "a", two_levels, resume=True)
    assert run.metrics()[-1]["step"] == 20
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "recipe.yaml").write_text(recipe.to_yaml())  # killed before space.json
    assert same_weights(run, go(recipe, tmp_path / "b", two_levels, resume=True))


def test_what_does_not_fit_the_folder_is_refused(make_recipe, two_levels, tmp_path):
    recipe = make_recipe("toy_logistic")
    go(recipe, tmp_path / "run", two_levels)
    with pytest.raises(UsageError, match="holds a run already; go on with it by --resume, or choose another"):
        go(recipe, tmp_path / "run", two_levels)
    other = make_recipe("toy_logistic", steps=30, learning_rate=0.5)
    with pytest.raises(UsageError, match=r"training\.steps is 20 in the run and 30 in the recipe"):
        go(other, tmp_path / "run", two_levels, resume=True)
    longer = DataSet("toy", two_levels.space, {**two_levels.splits, "train": two_levels.split("validation")})
    with pytest.raises(CheckpointError, match="other training data"):
        go(recipe, tmp_path / "run", longer, resume=True)
    space = DataSet("toy", Space.image(1, 2, 2, levels=3), two_levels.splits)
    with pytest.raises(SpaceMismatchError, match="levels=3"):
        go(recipe, tmp_path / "run", space, resume=True)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        go(recipe, tmp_path / "file", two_levels)


def test_a_state_of_another_architecture_is_refused(make_recipe, two_levels, tmp_path):
    run = go(make_recipe("toy_logistic"), tmp_path / "a", two_levels)
    other = go(make_recipe("toy_table"), tmp_path / "b", two_levels)
    state = run.path / "state" / "step-00000020"
    fields = json.loads((state / "state.json").read_text())
    (state / "state.json").write_text(json.dumps({**fields, "complete": False}))
    (run.path / "state").rename(tmp_path / "state")
    (other.path / "state").rename(run.path / "unused")
    (tmp_path / "state").rename(other.path / "state")
    with pytest.raises(CheckpointError, match="another architecture"):
        go(make_recipe("toy_table"), other.path, two_levels, resume=True)


def test_damage_and_another_number_of_threads_are_noted(make_recipe, two_levels, tmp_path, monkeypatch, capsys):
    recipe = make_recipe("toy_logistic", checkpoint_every=5)
    whole = go(recipe, tmp_path / "whole", two_levels)
    folder = stop_at(13, recipe, tmp_path / "run", two_levels, monkeypatch)
    state = folder / "state" / "step-00000010" / "state.json"
    fields = json.loads(state.read_text())
    state.write_text(json.dumps({**fields, "threads": 99}))
    stop_at(14, recipe, folder, two_levels, monkeypatch, resume=True)
    assert "it began with 99" in capsys.readouterr().err
    (folder / "state" / "step-00000010" / "model.safetensors").write_bytes(b"")
    run = go(recipe, folder, two_levels, resume=True)
    assert "step-00000010 is damaged" in (err := capsys.readouterr().err)
    assert "going on from the beginning" in err
    assert same_weights(whole, run)


@pytest.mark.parametrize(
    ("fail", "message"), [("output", "loss is .*non-finite output is middle"), ("gradient", "gradient norm is")]
)
def test_not_a_number_stops_with_step_and_layer(make_recipe, two_levels, tmp_path, fail, message):
    # Calls 11 is validation after step 10; the model fails at its call 14, in step 13.
    recipe = make_recipe("toy_logistic", {"fail_at": 14, "fail": fail}, ema_decay=None)
    with pytest.raises(TrainingError, match=f"step 13: the {message}"):
        go(recipe, tmp_path, two_levels)
    assert checkpoint.load_checkpoint(tmp_path / "state")[0].step == 10
    assert (tmp_path / "model.safetensors").is_file()


def test_a_full_disk_stops_and_resume_goes_on(make_recipe, two_levels, tmp_path, monkeypatch):
    recipe = make_recipe("toy_vae", checkpoint_every=5)
    whole = go(recipe, tmp_path / "whole", two_levels)
    write = checkpoint._write

    def full(path, content):
        if "00000010" in str(path):
            raise OSError(28, "No space left on device")
        return write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_write", full)
        with pytest.raises(CheckpointError, match=r"No space left.*step-00000005, is whole"):
            go(recipe, tmp_path / "run", two_levels)
    assert same_weights(whole, go(recipe, tmp_path / "run", two_levels, resume=True))


def test_conditions_flips_bf16_and_channels_last(make_recipe, two_levels, tmp_path):
    recipe = make_recipe(
        "toy_logistic",
        {"conditional": True},
        precision="bf16",
        channels_last=True,
        horizontal_flip=True,
        sample_every=10,
        learning_rate=0.05,
        optimizer="adamax",
        weight_decay=0.01,
    )
    run = go(recipe, tmp_path, two_levels)
    first, last = (next(lines) for lines in map(iter, (run.metrics(), run.metrics()[::-1])))
    assert last["nats"] < first["nats"]
    assert run.load_model().stem.weight.dtype == torch.float32
    assert any(b"samples" in path.read_bytes() for path in (tmp_path / "tensorboard").iterdir())


def test_models_that_are_fitted_take_no_steps(make_recipe, two_levels, tmp_path):
    run = go(make_recipe("toy_fitted"), tmp_path, two_levels)
    assert [line["split"] for line in run.metrics()] == ["train", "validation", "end"]
    p = float(two_levels.split("train").x.mean())
    assert run.metrics()[0]["bits_per_dim"] == pytest.approx(-p * math.log2(p) - (1 - p) * math.log2(1 - p), rel=1e-5)
    assert run.metrics()[0]["examples"] == 90
    assert go(make_recipe("toy_fitted"), tmp_path, two_levels, resume=True) == run


def test_a_model_without_parameters_is_a_run_too(make_recipe, two_levels, tmp_path):
    run = go(make_recipe("uniform"), tmp_path, two_levels)
    assert run.metrics()[-1]["bits_per_dim"] == 1.0


@pytest.fixture
def real():
    x = np.random.default_rng(0).normal(loc=2.0, size=(80, 2))
    return DataSet("normal", Space("vector", (2,), 2), {"train": Split(x), "validation": Split(x[:50] - 0.1)})


def test_densities_are_for_real_data(make_recipe, two_levels, real, tmp_path):
    with pytest.raises(UsageError, match=r"is a density but the data 'toy' are integers; dequantize"):
        go(make_recipe("toy_normal"), tmp_path / "a", two_levels)
    with pytest.raises(UsageError, match="is a mass but the data 'normal' are real numbers"):
        go(make_recipe("uniform"), tmp_path / "b", real)
    with pytest.raises(UsageError, match="no memorization floor"):
        go(make_recipe("toy_normal"), tmp_path / "c", real, overfit=3)


def test_a_density_is_reported_in_nats(make_recipe, real, tmp_path):
    run = go(make_recipe("toy_normal", steps=100, learning_rate=0.1), tmp_path, real)
    mean, x = run.load_model().mean.detach().numpy(), real.split("validation").x
    assert np.allclose(mean, real.split("train").x.mean(0), atol=0.15)
    assert {line["bits_per_dim"] for line in run.metrics()} == {None}
    expected = math.log(2 * math.pi) + ((x - mean) ** 2).sum(1).mean() / 2
    assert run.metrics()[-1]["nats"] == pytest.approx(expected, rel=1e-5)


def test_an_infinite_density_in_validation_stops(make_recipe, real, tmp_path):
    real.split("validation").x[7, 1] = 1e30
    with pytest.raises(TrainingError, match=r"validation datum 7 is not finite \(1 of 50 data\)"):
        go(make_recipe("toy_normal"), tmp_path, real)


def test_a_device_that_is_not_there(make_recipe, two_levels, tmp_path):
    for device in ("abacus", "cuda:99"):
        with pytest.raises(UsageError, match=f"--device {device}: .*cpu always works"):
            train(make_recipe("uniform"), tmp_path, data=two_levels, device=device)


def test_training_starts_from_the_weights_of_another_run(make_recipe, two_levels, tmp_path):
    first = train(make_recipe("mean_field"), tmp_path / "first", data=two_levels)
    kept = load_tensors(first.path / "model.safetensors")
    recipe = make_recipe("mean_field", steps=1, learning_rate=1e-30, start_from="first")
    run = train(recipe, tmp_path / "second", data=two_levels)
    for name, tensor in load_tensors(run.path / "model.safetensors").items():
        torch.testing.assert_close(tensor, kept[name])
    told = json.loads((run.path / "start.json").read_text())
    assert (told["run"], told["sha256"], told["step"]) == ("first", first.model_sha256, first.step)
    # Control: without it the weights are others.
    fresh = train(make_recipe("mean_field", steps=1, learning_rate=1e-30), tmp_path / "third", data=two_levels)
    assert not torch.equal(*(next(iter(load_tensors(r.path / "model.safetensors").values())) for r in (run, fresh)))
    with pytest.raises(UsageError, match="no run"):
        train(make_recipe("mean_field", start_from="nowhere"), tmp_path / "fourth", data=two_levels)
