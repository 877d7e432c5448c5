"""Quantization from end to end on a tiny run: cost, exactness, coding, refusals, the command."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from codelength import Space, build_model
from codelength.cli.main import codelength
from codelength.coding import integer_codec
from codelength.coding.codec import Archive, compress
from codelength.errors import CodecError, TrainingError, UsageError
from codelength.integer import exact_kernel, observe
from codelength.integer.rounding import (
    Activation,
    fit_activation,
    round_compensated,
    round_linear,
    simulate_weight,
    weight_steps,
)
from codelength.models.autoregressive.stepwise import stepwise_log_prob_per_dim
from codelength.quantization import FineTuning, quantize_model, quantize_run
from codelength.quantization.finetune import simulated_rounding
from codelength.quantization.quantize import integer_tensors
from codelength.recipe import parse_recipe
from codelength.run import create_run, load_run, save_run_weights
from codelength.units import bits, bits_per_dim

SPACE = Space.image(3, 6, 5, 32)
OPTIONS = {"rows": 2, "reach": 3, "width": 24, "layers": 3, "head_width": 16, "components": 3}


@pytest.fixture(scope="module")
def model(train):
    return train("causal_window", SPACE, OPTIONS, steps=60)


@pytest.fixture(scope="module")
def split(split_of):
    return split_of(SPACE)


@pytest.fixture(scope="module")
def integer(model, split):
    return quantize_model(copy.deepcopy(model), "causal_window", OPTIONS, split, bits=8, calibration=32)


@pytest.fixture(scope="module")
def x(images):
    return torch.from_numpy(images(24, SPACE, seed=7)).long()


def cost(integer, model, x) -> float:
    with torch.no_grad():
        return float(bits_per_dim((model.log_prob(x) - integer.log_prob(x)).mean(), model.space.num_dims))


@pytest.mark.parametrize("bits_", [8, 10, 12])
def test_quantization_costs_little(model, split, x, bits_):
    quantized = quantize_model(copy.deepcopy(model), "causal_window", OPTIONS, split, bits=bits_, calibration=64)
    assert abs(cost(quantized, model, x)) < 0.02


def test_parallel_and_steps_give_the_same_counts(integer, x):
    """Bit for bit, at any batch size, with any number of threads, with either kernel."""
    with torch.no_grad():
        parallel = integer.conditionals(x).log_prob_per_dim(x)
        assert torch.equal(stepwise_log_prob_per_dim(integer, x), parallel)
        alone = torch.cat([integer.conditionals(x[i : i + 1]).log_prob_per_dim(x[i : i + 1]) for i in range(4)])
        assert torch.equal(alone, parallel[:4])
        assert torch.equal(integer.log_prob(x), parallel.flatten(1).sum(1)) or torch.allclose(
            integer.log_prob(x), parallel.flatten(1).sum(1), rtol=1e-13
        )
        before = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            assert torch.equal(integer.conditionals(x).log_prob_per_dim(x), parallel)
        finally:
            torch.set_num_threads(before)
        with exact_kernel("float32"):
            other = copy.deepcopy(integer).double()
            assert torch.equal(other.conditionals(x).log_prob_per_dim(x), parallel)


def test_the_float_model_does_not_have_this_property(model, x):
    """Control: the float model's masses depend on how they are computed, here on the size of the batch."""
    with torch.no_grad():
        together = model.conditionals(x).log_prob_per_dim(x)
        alone = torch.cat([model.conditionals(x[i : i + 1]).log_prob_per_dim(x[i : i + 1]) for i in range(len(x))])
        stepwise = stepwise_log_prob_per_dim(model, x).to(together)
    assert not (torch.equal(alone, together) and torch.equal(stepwise, together))


def test_coded_size_is_the_models(integer, x):
    stream = integer_codec.encode(integer, x, batch=10)
    total = float(bits(-integer.log_prob(x).sum()))
    assert total <= len(stream) * 8 <= total * 1.002 + 64
    assert torch.equal(integer_codec.decode(integer, stream, len(x), batch=10), x)
    with exact_kernel("float32"):
        assert integer_codec.encode(copy.deepcopy(integer).double(), x, batch=10) == stream


def test_images_at_once_change_no_byte(integer, x, monkeypatch):
    stream = integer_codec.encode(integer, x)
    monkeypatch.setattr(integer_codec, "IMAGES_AT_ONCE", 5)
    assert integer_codec.encode(integer, x) == stream


def test_workers_change_no_byte(integer, x):
    content = compress(integer, x.numpy(), chunk=3, workers=1)
    assert compress(integer, x.numpy(), chunk=3, workers=2) == content
    for workers in (1, 2):
        np.testing.assert_array_equal(Archive(content).decode(integer, workers=workers), x.numpy())


def test_files_name_no_machine(integer, x):
    array = x.numpy().astype(np.uint8)
    content = compress(integer, array, chunk=9)
    archive = Archive(content)
    assert archive.header.codec == integer_codec.CODEC
    assert archive.header.machine == {}
    np.testing.assert_array_equal(archive.decode(integer), array)
    np.testing.assert_array_equal(archive.decode(integer, slice(10, 13)), array[10:13])


def test_damaged_streams_are_refused_or_decode_to_levels(integer, x):
    stream = integer_codec.encode(integer, x)
    with pytest.raises(CodecError, match="32-bit words"):
        integer_codec.decode(integer, stream[:-1], len(x))
    rng = np.random.default_rng(0)
    for _ in range(5):
        damaged = bytearray(stream)
        damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
        try:
            found = integer_codec.decode(integer, bytes(damaged), len(x))
        except CodecError:
            continue
        assert not torch.equal(found, x)
        assert int(found.min()) >= 0
        assert int(found.max()) < 32


@pytest.mark.parametrize("levels", [2, 3, 32])
@pytest.mark.parametrize("pixels", [None, "categorical", "logistic_mixture"])
def test_every_kind_of_pixel_is_coded(levels, pixels):
    """Levels that are no power of two included."""
    space = Space.image(2, 4, 4, levels)
    options = {"rows": 2, "reach": 2, "width": 12, "layers": 1, "head_width": 8, "pixels": pixels}
    integer = build_model("quantized", space, base="causal_window", options=options, activations=9).eval()
    x = torch.randint(levels, (5, 2, 4, 4), generator=torch.Generator().manual_seed(levels))
    stream = integer_codec.encode(integer, x)
    assert torch.equal(integer_codec.decode(integer, stream, 5), x)
    total = float(bits(-integer.log_prob(x).sum()))
    assert total - 1 <= len(stream) * 8 <= total * 1.002 + 64


def test_levels_that_do_not_exist_are_refused():
    space = Space.image(1, 4, 4, 3)
    options = {"rows": 2, "reach": 2, "width": 6, "layers": 1}
    integer = build_model("quantized", space, base="causal_window", options=options).eval()

    class Upwards:
        """A decoder whose every decision is the upper half: level 3 of 0 .. 2."""

        def code(self, shares: np.ndarray, bits: np.ndarray | None) -> np.ndarray:
            return np.ones(len(shares), dtype=np.int64)

    channel = integer.conditionals(torch.zeros(1, 1, 4, 4, dtype=torch.long)).channel(0, torch.zeros(1, 0, 4, 4))
    with pytest.raises(CodecError, match="does not have"):
        integer_codec.read_channel(channel, Upwards())


def test_classes_reach_the_integer_network(train, images, split_of):
    space = Space.image(1, 6, 5, 32, conditions={"label": 2})
    options = {**OPTIONS, "class_conditional": True}
    model = train("causal_window", space, options)
    integer = quantize_model(copy.deepcopy(model), "causal_window", options, split_of(space), bits=10)
    x, label = torch.from_numpy(images(16, space, 3)).long(), torch.arange(16) % 2
    with torch.no_grad():
        mine, other = integer.log_prob(x, label=label), integer.log_prob(x, label=1 - label)
        assert not torch.equal(mine, other)
        assert abs(float((mine - model.log_prob(x, label=label)).mean())) / 30 < 0.03
    stream = integer_codec.encode(integer, x, batch=6, label=label)
    assert torch.equal(integer_codec.decode(integer, stream, 16, batch=6, label=label), x)


def test_compensated_rounding_loses_less_than_rounding_to_nearest():
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(24, 24, generator=generator, dtype=torch.float64)
    samples = torch.randn(400, 24, generator=generator, dtype=torch.float64) @ mixing
    weight = torch.randn(6, 24, generator=generator, dtype=torch.float64) * 10
    steps = torch.ones(6, dtype=torch.float64)
    nearest, compensated = weight.round(), round_compensated(weight, steps, samples.t() @ samples)
    lost = [((w - weight) @ samples.t()).square().mean() for w in (nearest, compensated)]
    assert lost[1] < 0.6 * lost[0]
    assert torch.equal(compensated, compensated.round())


def test_a_rounded_layer_means_what_the_float_one_does():
    layer = torch.nn.Linear(10, 4).double()
    samples = torch.randn(500, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3 + 1
    activation = fit_activation(samples, 12)
    rounded = round_linear(layer, activation)
    a = (samples / activation.scale + activation.zero).round().clamp(activation.low, activation.high)
    got = rounded.layer(a.float()).double() * rounded.steps + rounded.offsets
    assert float((got - layer(samples).detach()).abs().max()) < 0.05
    assert bool((weight_steps(layer.weight.detach() * activation.scale) <= rounded.steps).all())


def test_fit_activation_clips_tails_where_that_pays():
    """A normal distribution in 4 bits loses less when its tails are cut; in 12 bits it does not."""
    samples = torch.randn(5000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spread = float(samples.max() - samples.min())
    assert float(fit_activation(samples, 4).scale[0]) < 0.95 * spread / 15
    assert float(fit_activation(samples, 12).scale[0]) == pytest.approx(spread / 4095)
    constant = fit_activation(torch.full((10, 1), 2.5, dtype=torch.float64), 8)
    torch.testing.assert_close(
        constant.simulate(torch.full((1, 1), 2.5, dtype=torch.float64)), torch.full((1, 1), 2.5, dtype=torch.float64)
    )


def test_gradients_pass_straight_through():
    activation = Activation(torch.tensor([0.1]), torch.tensor([3.0]), 8)
    x = torch.tensor([[0.234], [100.0]], requires_grad=True)
    activation.simulate(x).sum().backward()
    assert x.grad.flatten().tolist() == pytest.approx([1.0, 0.0])


def test_a_convolution_is_rounded_as_its_matrix_of_taps():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 2, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    activation = Activation(torch.tensor([0.1, 0.7], dtype=torch.float64), torch.zeros(2), 8)
    found = simulate_weight(weight, activation)
    scale = activation.scale[:, None, None]
    units = found * scale / ((weight * scale).abs().amax((1, 2, 3), keepdim=True) / 127)
    torch.testing.assert_close(units, units.round(), rtol=0, atol=1e-9)
    assert 0 < (found - weight).abs().max() < 0.1
    found.sum().backward()
    torch.testing.assert_close(weight.grad, torch.ones_like(weight))


def test_simulated_rounding_ends(model, x):
    layer = copy.deepcopy(model)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    x = x[:4]
    score = layer.log_prob(x)
    activation = Activation(torch.full((24,), 0.3), torch.zeros(24), 8)
    with simulated_rounding(layer, {"hidden.0": activation}):
        assert not torch.equal(layer.log_prob(x), score)
    assert torch.equal(layer.log_prob(x), score)
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())


def test_fine_tuning_lowers_the_simulated_cost(model, split, x):
    told: list[str] = []
    tuned = quantize_model(
        copy.deepcopy(model), "causal_window", OPTIONS, split,
        bits=8, tuning=FineTuning(100, batch_size=16, learning_rate=1e-3), say=told.append,
    )  # fmt: skip
    plain = quantize_model(copy.deepcopy(model), "causal_window", OPTIONS, split, bits=8)
    assert cost(tuned, plain, x) < 0
    assert any("bits/dim" in line for line in told)


def test_fine_tuning_that_diverges_is_an_error(model, split):
    with pytest.raises(TrainingError, match="lower the learning rate"):
        quantize_model(
            copy.deepcopy(model), "causal_window", OPTIONS, split,
            tuning=FineTuning(60, batch_size=8, learning_rate=1e9),
        )  # fmt: skip


def test_observations_are_thinned(model, split, monkeypatch):
    monkeypatch.setattr("codelength.integer.calibration.ROWS", 50)
    seen = observe(model, lambda: model.log_prob(torch.from_numpy(split.x[:8]).long()))
    assert set(seen.inputs) == set(seen.outputs)
    assert all(len(rows) <= 50 for rows in seen.inputs.values())


@pytest.fixture
def run(tmp_path: Path, model):
    recipe = parse_recipe(
        {
            "name": "tiny",
            "data": {"name": "photos32"},
            "model": {"system": "causal_window", "options": OPTIONS},
        }
    )
    create_run(tmp_path / "tiny", recipe, SPACE)
    save_run_weights(tmp_path / "tiny", dict(model.state_dict()), "raw", 60)
    return load_run(tmp_path / "tiny")


def test_a_quantized_run_is_a_run(run, split, x, tmp_path):
    quantized = quantize_run(run, tmp_path / "int8", split=split, bits=8, calibration=16)
    assert quantized.recipe.name == "tiny-int8"
    assert quantized.family == "autoregressive"
    loaded = quantized.load_model()
    assert all(not t.is_floating_point() for t in integer_tensors(loaded).values())
    assert abs(cost(loaded, run.load_model(), x)) < 0.02
    again = quantize_run(run, tmp_path / "again", split=split, bits=8, calibration=16)
    assert again.model_sha256 == quantized.model_sha256
    with pytest.raises(UsageError, match="holds a run already"):
        quantize_run(run, tmp_path / "int8", split=split)
    assert torch.equal(
        quantized.load_model(torch.float64).log_prob(x), loaded.log_prob(x)
    )  # the type that a program runs in changes nothing


def test_systems_without_an_integer_form_are_refused(model, split):
    with pytest.raises(UsageError, match="unknown system that can be quantized 'mean_field'"):
        quantize_model(build_model("mean_field", SPACE), "mean_field", {}, split)
    with pytest.raises(UsageError, match="integer form"):
        build_model("quantized", SPACE, base="mean_field")
    with pytest.raises(UsageError, match="8 to 12"):
        build_model("quantized", SPACE, base="causal_window", activations=7)
    with pytest.raises(UsageError, match="does not take the options"):
        build_model("quantized", SPACE, base="causal_window", options={"depth": 3})
    with pytest.raises(UsageError, match="0 calibration data"):
        quantize_model(model, "causal_window", OPTIONS, split, calibration=0)


def test_floats_in_an_integer_model_are_a_bug():
    with pytest.raises(TypeError, match="wanted integers"):
        integer_tensors(torch.nn.Linear(2, 2))


def test_command(tmp_path):
    """On real data: photographs, a network of a few units."""
    recipe = parse_recipe(
        {
            "name": "photo",
            "data": {"name": "photos32"},
            "model": {
                "system": "causal_window",
                "options": {"rows": 2, "reach": 2, "width": 16, "layers": 2, "head_width": 8},
            },
        }
    )
    from codelength.data import load_data

    space = load_data("photos32").space
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model("causal_window", space, **recipe.model.options)
    create_run(tmp_path / "photo", recipe, space)
    save_run_weights(tmp_path / "photo", dict(model.state_dict()), "raw", 0)
    out = tmp_path / "photo-int8"
    runner = CliRunner()
    arguments = ["quantize", str(tmp_path / "photo"), "--out", str(out), "--activations", "8", "--calibration", "20"]
    result = runner.invoke(codelength, [*arguments, "--finetune", "2", "--batch-size", "4"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(out)
    assert json.loads((out / "weights.json").read_text())["weights"] == "raw"
    assert load_run(out).load_model().exact_integers
