"""Bits-back coding of latent models: exact on any data, and as short as the negative ELBO."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from codelength.coding.bits_back import BitsBack, BitSwap, mean_cells, middles, pop_cells
from codelength.coding.chain import decode_chain, encode_chain
from codelength.coding.codec import Archive, compress
from codelength.coding.measure import code_length
from codelength.coding.registry import codec_of
from codelength.coding.stack import Stack
from codelength.errors import CodecError
from codelength.models.latent.base import Gaussian
from codelength.models.registry import build_model
from codelength.randomness import ExampleNoise, make_generator
from codelength.space import Space

CASES = [
    ("vae", {"latents": 4, "filters": 8}, 1, 2, "bits_back/1"),
    ("vae", {"latents": 2, "filters": 8, "spatial": True}, 3, 256, "bits_back/1"),
    ("iwae", {"latents": 3, "filters": 16, "samples": 2, "pixels": "categorical"}, 1, 5, "bits_back/1"),
    ("hierarchical_vae", {"latents": [3, 5], "hidden": 16}, 1, 256, "bits_back/1"),
    ("hierarchical_vae", {"latents": [3, 5, 4], "hidden": 16, "inference": "bottom_up"}, 1, 2, "bit_swap/1"),
    ("draw", {"steps": 3, "latents": 2, "hidden": 16}, 3, 2, "bits_back/1"),
    ("iaf_vae", {"iaf": 0, "latents": 2, "filters": 8}, 1, 17, "bits_back/1"),
]


def latent_model(system: str, options: dict, channels: int, levels: int):
    torch.manual_seed(0)
    model = build_model(system, Space.image(channels, 8, 8, levels), **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def elbo_bits(model, x: Tensor, draws: int = 8) -> float:
    with torch.no_grad():
        weights = model.log_weights(x, draws, make_generator(0, "elbo")).total
    return -float(weights.double().mean(0).sum()) / math.log(2)


@pytest.mark.parametrize(("system", "options", "channels", "levels", "codec"), CASES)
def test_round_trip_on_any_data(system: str, options: dict, channels: int, levels: int, codec: str) -> None:
    model = latent_model(system, options, channels, levels)
    generator = make_generator(1, "data")
    shape = (2, channels, 8, 8)
    x = torch.cat(
        [
            model.sample(6, generator),
            torch.randint(levels, shape, generator=generator),
            torch.zeros(shape, dtype=torch.long),
            torch.full(shape, levels - 1),
        ]
    )
    assert codec_of(model) == codec
    for part in (x, x[:1], x[:0]):
        archive = Archive(compress(model, part.numpy()))
        assert archive.header.codec == codec
        np.testing.assert_array_equal(archive.decode(model), part.numpy())


@pytest.mark.parametrize("case", [0, 4])
def test_net_rate_is_the_negative_elbo(case: int) -> None:
    system, options, channels, levels, _ = CASES[case]
    model = latent_model(system, options, channels, levels)
    x = model.sample(160, make_generator(2, "data"))
    order = BitSwap if system == "hierarchical_vae" else BitsBack
    net = 8 * (len(encode_chain(order, model, x)) - len(encode_chain(order, model, x[:20])))
    wanted = elbo_bits(model, x[20:])
    # Each image's code is one draw of −log w: the mean of 140 has a standard error of its own.
    assert abs(net - wanted) < 0.01 * wanted


def test_first_items_supply_the_bits_of_the_others() -> None:
    model = latent_model(*CASES[0][:4])
    x = model.sample(3, make_generator(3, "data"))
    stack = Stack()
    with torch.inference_mode():
        BitsBack(model).encode(stack, x[:1], plain=True)
    stream = encode_chain(BitsBack, model, x[:1])
    assert 0 < stack.bits <= 8 * len(stream) <= stack.bits + 10 + 32
    assert torch.equal(decode_chain(BitsBack, model, stream, 1), x[:1])


def test_bit_swap_needs_fewer_bits_at_a_time() -> None:
    model = latent_model(*CASES[4][:4])
    x = model.sample(1, make_generator(4, "data"))
    noise = np.random.default_rng(0).integers(1, 2**32, 200, dtype=np.uint32).astype("<u4").tobytes()
    fewest = {}
    with torch.inference_mode():
        for order in (BitsBack, BitSwap):
            stack = Stack(noise)
            order(model).encode(stack, x, plain=False)
            fewest[order] = stack.lowest
            assert torch.equal(order(model).decode(stack, 1, plain=False), x)
            assert stack.finish() == noise  # the bits are given back
    assert fewest[BitSwap] > fewest[BitsBack] + 20


def test_popped_latents_follow_the_posterior() -> None:
    rng = np.random.default_rng(5)
    stack = Stack(rng.integers(1, 2**32, 40_000, dtype=np.uint32).astype("<u4").tobytes())
    gaussian = Gaussian(torch.full((1, 20_000), 0.7), torch.full((1, 20_000), -2.0))
    z = middles(pop_cells(stack, gaussian), gaussian)
    std = math.exp(-2)
    assert abs(float(z.mean()) - 0.7) < 4 * std / math.sqrt(20_000)
    assert float(z.std()) == pytest.approx(math.sqrt(std**2 + 1 / 64**2 / 12), rel=4 / math.sqrt(40_000))
    assert float((middles(mean_cells(gaussian), gaussian) - 0.7).abs().max()) <= 1 / 128


@pytest.mark.parametrize("case", [0, 3, 4, 5, 6])
def test_walking_the_posterior_is_inferring(case: int) -> None:
    """With the same noise, `choose_posterior` and `infer` draw the same latents."""
    system, options, channels, levels, _ = CASES[case]
    model = latent_model(system, options, channels, levels).double()
    x = model.sample(2, make_generator(6, "data"))
    generator, found = make_generator(7, "noise"), {}

    def choose(layer: str, posterior: Gaussian) -> Tensor:
        noise = torch.randn(posterior.mean.shape, generator=generator, dtype=torch.float64)
        found[layer] = posterior.draw(noise)
        return found[layer]

    with torch.no_grad():
        model.choose_posterior(x, choose)
        wanted = model.infer(x, 1, make_generator(7, "noise")).latents
    for layer, z in wanted.items():
        torch.testing.assert_close(found[layer], z[0], rtol=0, atol=1e-12)


def test_what_cannot_be_coded_is_refused() -> None:
    model = latent_model("iaf_vae", {"iaf": 1, "latents": 2, "filters": 8}, 1, 2)
    with pytest.raises(CodecError, match="no codec"):
        codec_of(model)


def test_damage_is_noticed() -> None:
    model = latent_model(*CASES[0][:4])
    x = model.sample(20, make_generator(8, "data"))
    stream = encode_chain(BitsBack, model, x)
    damaged = bytearray(stream)
    damaged[8] ^= 1
    with contextlib.suppress(CodecError):
        assert not torch.equal(decode_chain(BitsBack, model, bytes(damaged), 20), x)
    other = latent_model(*CASES[0][:4])
    with torch.no_grad():
        next(other.parameters()).add_(0.01)
    with pytest.raises(CodecError, match="not with"):
        Archive(compress(model, x.numpy())).decode(other)


def test_a_model_that_bounds_is_measured_by_its_bound() -> None:
    model = latent_model(*CASES[0][:4])
    x = model.sample(120, make_generator(9, "data"))
    with torch.no_grad():
        weights = model.log_weights(x, 1, ExampleNoise(0, range(120))).total
    assert code_length(model, x.numpy()) == pytest.approx(-float(weights.double().sum()), rel=1e-6)
