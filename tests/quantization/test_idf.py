"""The integer form of integer flows, and their codec."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from codelength import Space, build_model
from codelength.coding import Archive, compress
from codelength.coding.registry import CODECS, codec_of
from codelength.errors import CodecError, UsageError
from codelength.integer import IntegerLinear, exact_kernel
from codelength.quantization import FineTuning, quantize_model
from codelength.quantization.quantize import integer_tensors
from codelength.units import bits, bits_per_dim

CASES = {
    "grey": (Space.image(1, 8, 4, 32), {"growth": 8, "layers": 2, "components": 3, "couplings": 2}),
    "colour": (
        Space.image(3, 4, 4, 32),
        {"growth": 8, "layers": 1, "components": 2, "scales": 1, "factoring": "half", "pattern": "random"},
    ),
    "no-wrap": (
        Space.image(1, 4, 4, 32),
        {"growth": 8, "layers": 1, "components": 2, "wrap": False, "rezero": True, "background": True},
    ),
}


@pytest.fixture(scope="module", params=CASES)
def case(request, train, images, split_of):
    """Float model, its integer form, data."""
    space, options = CASES[request.param]
    model = train("idf", space, options, steps=60, learning_rate=1e-2)
    integer = quantize_model(copy.deepcopy(model), "idf", options, split_of(space), bits=10, calibration=48)
    return model, integer, torch.from_numpy(images(20, space, seed=7)).long()


def test_cost_is_small(case):
    model, integer, x = case
    with torch.no_grad():
        lost = (model.log_prob(x) - integer.log_prob(x)).mean()
    assert abs(float(bits_per_dim(lost, model.space.num_dims))) < 0.05


def test_fine_tuning_trains_convolutions_with_rounding_simulated(case, split_of):
    model, integer, x = case
    options = next(options for space, options in CASES.values() if space == model.space)
    tuned = quantize_model(
        copy.deepcopy(model), "idf", options, split_of(model.space), bits=10, calibration=48, tuning=FineTuning(3, batch_size=8)
    )  # fmt: skip
    with torch.no_grad():
        moved = tuned.log_prob(x) - integer.log_prob(x)
    assert moved.abs().max() > 0
    assert abs(float(bits_per_dim(moved.mean(), model.space.num_dims))) < 0.1


def test_latents_are_a_bijection_and_move(case):
    _, integer, x = case
    z = integer.latents(x)
    assert torch.equal(integer.from_latents(z), x)
    still = build_model("idf", integer.space, **{**CASES["no-wrap"][1], "couplings": 0, "scales": 1, "wrap": True})
    assert sum(part[0].numel() for part in z) == still.space.num_dims


def test_kernels_batches_and_types_give_the_same_integers(case):
    _, integer, x = case
    z, whole = integer.latents(x), integer.log_prob(x)
    for a, b in zip(integer.latents(x[:1]), z, strict=True):
        assert torch.equal(a, b[:1])
    with exact_kernel("float32"):
        other = copy.deepcopy(integer).double()
        assert all(torch.equal(a, b) for a, b in zip(other.latents(x), z, strict=True))
        assert torch.equal(other.log_prob(x), whole)


def test_coded_to_the_models_size_and_decoded(case):
    _, integer, x = case
    name = codec_of(integer)
    codec = CODECS[name]
    assert name == "integer_flow/1"
    assert codec.portable
    stream = codec.encode(integer, x, batch=8, threads=1)
    assert torch.equal(codec.decode(integer, stream, 20, batch=8, threads=1), x)
    total = float(bits(-integer.log_prob(x).sum()))
    assert total - 1 <= len(stream) * 8 <= total * 1.002 + 64
    try:
        other = codec.decode(integer, stream[8:] + stream[:8], 20, batch=8, threads=1)
    except CodecError:
        other = x * 0
    assert not torch.equal(other, x)
    with pytest.raises(CodecError, match="32-bit words"):
        codec.decode(integer, stream[:-1], 20, batch=8, threads=1)


def test_one_image_of_a_file_decodes_alone(case):
    _, integer, x = case
    items = x.numpy().astype(np.uint8)
    archive = Archive(compress(integer, items, chunk=1))
    assert np.array_equal(archive.decode(integer, slice(7, 8)), items[7:8])
    assert np.array_equal(Archive(compress(integer, items)).decode(integer), items)


def test_all_that_is_saved_is_integers_and_all_sums_are_proved(case):
    _, integer, _ = case
    assert integer_tensors(integer)
    layers = [layer for layer in integer.modules() if isinstance(layer, IntegerLinear)]
    assert len(layers) >= 8
    assert all(layer.bound <= 2**24 or layer.wide for layer in layers)


def test_float_flows_are_not_coded(case):
    model, _, _ = case
    with pytest.raises(CodecError, match="quantize"):
        codec_of(model)


def test_networks_without_an_integer_form_are_refused():
    for options in ({"activation": "swish"}, {"group_norm": True}):
        with pytest.raises(UsageError, match="activation=relu"):
            build_model("quantized", Space.image(1, 4, 4, 8), base="idf", options=options)
