"""Every architecture with an integer form: little cost, equal integers in parallel and step by step, coded for real."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from codelength import Space, build_model
from codelength.coding import integer_codec
from codelength.errors import CodecError, UsageError
from codelength.integer import IntegerLinear, exact_kernel
from codelength.models.autoregressive.stepwise import stepwise_log_prob_per_dim
from codelength.models.quantized.attention import IntegerAttention, IntegerLayerNorm, attention_bits
from codelength.models.quantized.gated_pixelcnn import IntegerGate
from codelength.models.quantized.parts import STREAM
from codelength.quantization import FineTuning, quantize_model
from codelength.quantization.quantize import QUANTIZERS, integer_tensors
from codelength.units import bits, bits_per_dim

GREY = Space.image(1, 6, 5, 32)
FEW = Space.image(1, 5, 6, 4)
COLOUR = Space.image(3, 3, 4, 32)
LABELLED = Space.image(1, 6, 5, 32, conditions={"label": 2})
ATTENTION = {"layers": 2, "width": 24, "heads": 3, "feed_forward": 40}
CASES: dict[str, tuple[str, Space, dict[str, Any]]] = {
    "window": ("causal_window", COLOUR, {"rows": 2, "reach": 2, "width": 16, "layers": 2, "head_width": 8}),
    "gated": ("gated_pixelcnn", GREY, {"filters": 12, "layers": 3, "first_kernel": 5, "components": 3}),
    "gated-class": ("gated_pixelcnn", LABELLED, {"filters": 8, "layers": 2, "class_conditional": True}),
    "gated-levels": ("gated_pixelcnn", FEW, {"filters": 8, "layers": 2, "pixels": "categorical"}),
    "gated-binary": ("gated_pixelcnn", Space.image(1, 5, 6, 2), {"filters": 8, "layers": 2}),
    "post-norm": ("image_transformer", GREY, {**ATTENTION, "query": 8, "memory": 5, "components": 3}),
    "pre-norm": (
        "image_transformer",
        COLOUR,
        {**ATTENTION, "query": 9, "memory": 9, "norm": "pre", "channel_positions": True, "pixels": "logistic_mixture"},
    ),
    "blocks-class": (
        "image_transformer",
        LABELLED,
        {
            **ATTENTION,
            "block": "2d",
            "query": [3, 5],
            "memory": [2, 2],
            "class_conditional": True,
            "pixels": "categorical",
        },
    ),
    "sparse": ("sparse_transformer", FEW, {"layers": 2, "width": 24, "heads": 2, "stride": 6, "mixing": "heads"}),
}


@pytest.fixture(scope="module", params=CASES)
def case(request, train, images, split_of):
    """Float model, its integer form, data with conditions."""
    system, space, options = CASES[request.param]
    model = train(system, space, options)
    integer = quantize_model(copy.deepcopy(model), system, options, split_of(space), bits=8, calibration=48)
    x = torch.from_numpy(images(10, space, seed=7)).long()
    return model, integer, x, {"label": torch.arange(10) % 2} if model.conditioning else {}


def test_every_integer_form_is_tested():
    assert {system for system, _, _ in CASES.values()} | {"idf"} == set(QUANTIZERS)  # test_idf.py


def test_cost_is_small(case):
    model, integer, x, conditions = case
    with torch.no_grad():
        lost = (model.log_prob(x, **conditions) - integer.log_prob(x, **conditions)).mean()
    assert abs(float(bits_per_dim(lost, model.space.num_dims))) < 0.03


def test_steps_and_kernels_give_the_same_integers(case):
    _, integer, x, conditions = case
    with torch.no_grad():
        parallel = integer.conditionals(x, **conditions).log_prob_per_dim(x)
        assert torch.equal(stepwise_log_prob_per_dim(integer, x, **conditions), parallel)
        one = {name: value[:1] for name, value in conditions.items()}
        assert torch.equal(integer.conditionals(x[:1], **one).log_prob_per_dim(x[:1]), parallel[:1])
        with exact_kernel("float32"):
            other = copy.deepcopy(integer).double()
            assert torch.equal(other.conditionals(x, **conditions).log_prob_per_dim(x), parallel)


def test_it_is_coded_to_the_models_size(case):
    _, integer, x, conditions = case
    stream = integer_codec.encode(integer, x, batch=4, **conditions)
    assert torch.equal(integer_codec.decode(integer, stream, 10, batch=4, **conditions), x)
    total = float(bits(-integer.log_prob(x, **conditions).sum()))
    assert total - 1 <= len(stream) * 8 <= total * 1.002 + 64


def test_all_that_is_saved_is_integers_and_all_sums_are_proved(case):
    _, integer, _, _ = case
    assert integer_tensors(integer)
    layers = [layer for layer in integer.modules() if isinstance(layer, IntegerLinear)]
    assert len(layers) >= 4
    assert all(layer.bound <= 2**24 or layer.wide for layer in layers)


def test_classes_matter_as_in_the_float_model(case):
    model, integer, x, conditions = case
    if not conditions:
        pytest.skip("no classes")
    with torch.no_grad():
        model = copy.deepcopy(model)
        other = {"label": 1 - conditions["label"]}
        change = model.log_prob(x, **other) - model.log_prob(x, **conditions)
        mine = integer.log_prob(x, **other) - integer.log_prob(x, **conditions)
    torch.testing.assert_close(mine, change.double(), rtol=0.2, atol=0.6)


@pytest.mark.parametrize("system", ["gated_pixelcnn", "image_transformer"])
def test_convolutions_and_attention_can_be_fine_tuned(system, train, split_of):
    name = {"gated_pixelcnn": "gated-levels", "image_transformer": "post-norm"}[system]
    _, space, options = CASES[name]
    model = train(system, space, options, steps=5)
    tuned = quantize_model(
        model, system, options, split_of(space), bits=9, tuning=FineTuning(3, batch_size=8, learning_rate=1e-3)
    )
    assert tuned.exact_integers


def test_attention_refuses_sums_that_leave_float32():
    assert attention_bits(12, 64) == 10
    assert attention_bits(12, 16) == 11
    mask = torch.ones(1, 2, 2, dtype=torch.bool)
    attention = IntegerAttention(8, 1, 8, 8, mask, 12)
    attention.bits = 14
    with pytest.raises(CodecError, match="leaves 2"):
        attention(torch.zeros(1, 2, 8))


def test_attention_shares_are_softmax():
    mask = torch.ones(2, 5, 5, dtype=torch.bool).tril()
    attention = IntegerAttention(8, 2, 8, 8, mask, 8)
    attention.gap.set(2.0**-6)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randint(-100, 100, (1, 2, 5, 4), generator=generator).float() for _ in range(3))
    got = attention.attend(q, k, v, mask) * 2.0**-attention.weight_bits
    scores = (q @ k.transpose(-1, -2) * 2.0**-6 / 64).masked_fill(~mask, -torch.inf)
    torch.testing.assert_close(got, scores.softmax(-1) @ v, rtol=0, atol=1.0)


def test_layer_norm_in_integers():
    norm = torch.nn.LayerNorm(24)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2, generator=torch.Generator().manual_seed(0))
        norm.bias.uniform_(-1, 1, generator=torch.Generator().manual_seed(1))
    integer = IntegerLayerNorm(24, -(2**22), 2**22)
    integer.set(norm, STREAM, 0.0)
    x = torch.randn(50, 24, generator=torch.Generator().manual_seed(2)) * 3 + 1
    got = integer((x / STREAM).round()) * STREAM
    torch.testing.assert_close(got, norm(x).detach(), rtol=0, atol=3e-3)
    assert torch.equal(
        integer(torch.zeros(1, 24)) * STREAM, ((norm.bias.detach() / STREAM) + 0.5).floor().unsqueeze(0) * STREAM
    )


def test_gate_in_integers():
    gate = IntegerGate(10)
    x = torch.linspace(-9, 9, 400).view(20, 20)
    got = gate((x / STREAM).round()) / 511
    a, b = x.chunk(2, dim=-1)
    torch.testing.assert_close(got, torch.tanh(a) * torch.sigmoid(b), rtol=0, atol=5e-3)


@pytest.mark.parametrize(
    ("base", "space", "options", "message"),
    [
        ("gated_pixelcnn", COLOUR, {}, "models one channel"),
        (
            "image_transformer",
            COLOUR,
            {**ATTENTION, "query": 4, "memory": 4, "channel_positions": False},
            "one channel at a time",
        ),
        ("gated_pixelcnn", Space.image(1, 4, 4, 1024), {"filters": 4, "layers": 1}, "at most 256 levels"),
    ],
)
def test_forms_that_do_not_exist_are_refused(base, space, options, message):
    with pytest.raises(UsageError, match=message):
        build_model("quantized", space, base=base, options=options)
