"""The codec of stepwise models: exact on any data, and as short as −log2 P."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from codelength.coding import autoregressive
from codelength.coding.autoregressive import decode, encode, lockstep_batch
from codelength.errors import CodecError, SpaceMismatchError
from codelength.models.registry import build_model
from codelength.space import Space

CASES = [
    (1, 2, "bernoulli"),
    (1, 17, "categorical"),
    (1, 256, "logistic_mixture"),
    (3, 256, "logistic_mixture"),
    (3, 5, "categorical"),
    (1, 65536, "logistic_mixture"),
]


def torch_images(images, n: int, channels: int, levels: int, side: int = 6) -> Tensor:
    return torch.from_numpy(images(n, channels, side, levels).astype(np.int64))


def model_bits(model, x: Tensor) -> float:
    with torch.no_grad():
        return -float(model.log_prob(x).double().sum()) / math.log(2)


@pytest.mark.parametrize(("channels", "levels", "pixels"), CASES)
def test_round_trip_on_any_data(tiny, images, channels: int, levels: int, pixels: str) -> None:
    model = tiny(channels, 6, levels, pixels)
    generator = torch.Generator().manual_seed(1)
    grid = torch.arange(6)
    checkerboard = ((grid[:, None] + grid) % 2 * (levels - 1)).expand(1, channels, 6, 6)
    data = torch.cat(
        [
            torch.randint(levels, (5, channels, 6, 6), generator=generator),
            torch.zeros((1, channels, 6, 6), dtype=torch.long),
            torch.full((1, channels, 6, 6), levels - 1),
            checkerboard,
            torch_images(images, 3, channels, levels),
        ]
    )
    before = data.clone()
    for x in (data, data[:1], data[:0]):
        stream = encode(model, x, batch=4)
        assert torch.equal(decode(model, stream, len(x), batch=4), x)
    assert torch.equal(data, before)
    assert encode(model, data[:0]) == b""


@pytest.mark.parametrize(("channels", "levels", "pixels"), CASES[:4])
def test_length_is_minus_log2_p(tiny, images, channels: int, levels: int, pixels: str) -> None:
    model = tiny(channels, 6, levels, pixels)
    x = torch_images(images, 500, channels, levels)
    stream = encode(model, x)
    assert 8 * len(stream) <= 1.0005 * model_bits(model, x) + 64
    assert torch.equal(decode(model, stream, 500), x)


@pytest.mark.parametrize(
    ("system", "options"),
    [("uniform", {}), ("mean_field", {"pixels": "categorical"}), ("mean_field", {}), ("made", {})],
)
def test_registered_models(images, system: str, options: dict) -> None:
    torch.manual_seed(0)
    model = build_model(system, Space.image(1, 6, 6), **options).eval()
    x = torch_images(images, 40, 1, 256)
    stream = encode(model, x, batch=16)
    assert torch.equal(decode(model, stream, 40, batch=16), x)
    assert abs(8 * len(stream) - model_bits(model, x)) <= 0.005 * model_bits(model, x) + 64


def test_encoder_takes_the_decoders_steps_and_no_other_pass(tiny, images, monkeypatch) -> None:
    model = tiny()
    calls: list[tuple[str, int]] = []
    original = type(model).step

    def step(self, state, values):
        calls.append((side, len(state["x"])))
        return original(self, state, values)

    def refuse(self, x, **conditions):
        raise AssertionError("the codec used the parallel pass")

    monkeypatch.setattr(type(model), "step", step)
    monkeypatch.setattr(type(model), "conditionals", refuse)
    x = torch_images(images, 5, 1, 256)
    side = "encode"
    stream = encode(model, x, batch=2)
    side = "decode"
    decode(model, stream, 5, batch=2)
    encoder = [n for which, n in calls if which == "encode"]
    assert encoder == [n for which, n in calls if which == "decode"]
    assert encoder == [2] * 72 + [1] * 36


def test_slightly_other_weights_decode_other_data(tiny, images) -> None:
    """Control: a round trip is not exact by accident."""
    model, other = tiny(), tiny()
    x = torch_images(images, 20, 1, 256)
    stream = encode(model, x)
    with torch.no_grad():
        other.bias[0] += 1e-3
    try:
        decoded = decode(other, stream, 20)
    except CodecError:
        return  # the stream has no symbol there: noticed as well
    assert not torch.equal(decoded, x)


def test_values_with_an_offset(images) -> None:
    space = Space("image", (1, 4, 4), 256, offset=-128)
    model = build_model("mean_field", space)
    x = torch_images(images, 3, 1, 256, side=4) - 128
    assert torch.equal(decode(model, encode(model, x), 3), x)


def test_mode_and_threads_come_back(tiny, images) -> None:
    model = tiny().train()
    threads = torch.get_num_threads()
    encode(model, torch_images(images, 1, 1, 256), threads=threads + 1)
    assert model.training
    assert torch.get_num_threads() == threads


def test_batches_shrink_where_tables_would_not_fit(monkeypatch) -> None:
    model = build_model("mean_field", Space.image(1, 8, 8), pixels="categorical")
    assert lockstep_batch(model, 100) == 100
    monkeypatch.setattr(autoregressive, "TABLE_NUMBERS", 3 * 64 * 256)
    assert lockstep_batch(model, 100) == 3
    monkeypatch.setattr(autoregressive, "TABLE_NUMBERS", 1)
    assert lockstep_batch(model, 100) == 1


def test_batches_of_models_coded_by_cdf_need_no_tables(tiny, monkeypatch) -> None:
    monkeypatch.setattr(autoregressive, "TABLE_NUMBERS", 3 * 256)
    assert lockstep_batch(tiny(levels=256), 100) == 100
    assert lockstep_batch(tiny(levels=256, pixels="categorical"), 100) == 3


def test_what_cannot_be_coded_is_refused(tiny, images) -> None:
    x = torch_images(images, 2, 1, 256)
    with pytest.raises(SpaceMismatchError):
        encode(tiny(levels=17, pixels="categorical"), x)
    with pytest.raises(CodecError, match="has no schedule"):
        encode(build_model("vae", Space.image(1, 8, 8)), torch.zeros((1, 1, 8, 8), dtype=torch.long))
    broken = tiny()
    with torch.no_grad():
        broken.bias.fill_(float("nan"))
    with pytest.raises(CodecError, match="not finite"):
        encode(broken, x)


def test_sixteen_bits_along_wavefronts(randomize) -> None:
    """65,536 levels by bisection, as many images in lockstep as there are, and as short as the model says."""
    torch.manual_seed(0)
    options = {"rows": 2, "reach": 2, "width": 12, "layers": 2, "components": 3}
    model = build_model("causal_window", Space.image(1, 9, 10, 65_536), **options).eval()
    generator = torch.Generator().manual_seed(0)
    ramp = 900 + 10 * torch.arange(10) + 5 * torch.arange(9)[:, None]
    x = ramp + torch.randint(-40, 41, (30, 1, 9, 10), generator=generator)
    x[0], x[1, 0, 0, 0], x[1, 0, -1, -1] = 0, 65_535, 0
    model.initialize(x, generator)
    assert lockstep_batch(model, 30) == 30
    stream = encode(model, x)
    assert torch.equal(decode(model, stream, 30), x)
    usual = x[2:]  # the coder's floor of 2^-24 makes the others cheaper than the model thinks them
    assert abs(8 * len(encode(model, usual)) - model_bits(model, usual)) <= 0.002 * model_bits(model, usual) + 64
