"""Local bits-back coding of flows: exact on any data, and as short as the bound of uniform dequantization."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from codelength.coding.chain import decode_chain, encode_chain
from codelength.coding.codec import Archive, compress
from codelength.coding.local_bits_back import (
    DIGIT,
    LocalBitsBack,
    backward,
    forward,
    scaled,
    unscaled,
    values,
)
from codelength.coding.registry import codec_of
from codelength.coding.stack import Stack
from codelength.errors import CodecError
from codelength.models.registry import build_model
from codelength.randomness import make_generator
from codelength.space import Space

CASES = [
    ("realnvp", {"filters": 8, "blocks": 1}, 3),
    ("realnvp", {"filters": 8, "blocks": 1, "fold": 2, "preprocessing": "marginal"}, 1),
    ("glow", {"depth": 2, "filters": 8, "preprocessing": "marginal"}, 1),
    ("glow", {"scales": 1, "depth": 2, "filters": 8, "coupling": "additive"}, 3),
    ("glow", {"scales": 1, "depth": 1, "filters": 8, "class_conditional": True}, 1),
    ("nice", {"couplings": 2, "hidden": 8, "preprocessing": "logit"}, 1),
]


def random_stack(words: int = 20_000) -> Stack:
    return Stack(np.random.default_rng(0).integers(1, 2**32, words, dtype=np.uint32).astype("<u4").tobytes())


def labels(model, n: int) -> dict[str, Tensor]:
    return {name: torch.arange(n) % 3 for name in model.conditioning}


def smooth(n: int, channels: int) -> Tensor:
    """Images a flow can be of use for: a grey and a little noise."""
    generator = make_generator(0, "images")
    grey = torch.randint(40, 200, (n, 1, 1, 1), generator=generator)
    return grey + torch.randint(-8, 9, (n, channels, 8, 8), generator=generator)


def flow(system: str, options: dict, channels: int):
    torch.manual_seed(0)
    space = Space.image(channels, 8, 8, 256, conditions={"label": 3} if "class_conditional" in options else {})
    model = build_model(system, space, **options).eval()
    model.initialize(smooth(64, channels), make_generator(1, "initialize"), **labels(model, 64))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return model


def bound_bits(model, x: Tensor) -> tuple[float, float]:
    """Mean and deviation of the total one-sample bound, over the noise of dequantization."""
    with torch.no_grad():
        weights = model.log_weights(
            x, 16, make_generator(2, "bound"), **labels(model, len(x))
        ).total.double() / -math.log(2)
    return float(weights.mean(0).sum()), float(weights.var(0).sum().sqrt())


@pytest.mark.parametrize(("system", "options", "channels"), CASES)
def test_round_trip_and_net_rate(system: str, options: dict, channels: int) -> None:
    model = flow(system, options, channels)
    assert codec_of(model) == "local_bits_back/1"
    generator = make_generator(3, "data")
    strange = torch.cat(
        [
            torch.randint(256, (2, channels, 8, 8), generator=generator),
            torch.zeros((1, channels, 8, 8), dtype=torch.long),
            torch.full((1, channels, 8, 8), 255),
        ]
    )
    x = torch.cat([smooth(24, channels), strange])
    streams = {n: encode_chain(LocalBitsBack, model, x[:n], batch=4, **labels(model, n)) for n in (20, 24, 28)}
    assert torch.equal(decode_chain(LocalBitsBack, model, streams[28], 28, batch=4, **labels(model, 28)), x)
    net = 8 * (len(streams[24]) - len(streams[20]))
    bound, deviation = bound_bits(model, x[20:24])
    assert abs(net - bound) < 0.002 * bound + 4 * deviation + 32
    assert deviation < 0.02 * bound
    conditions = {name: value.numpy() for name, value in labels(model, 6).items()}
    archive = Archive(compress(model, x[-6:].numpy(), conditions=conditions))
    np.testing.assert_array_equal(archive.decode(model), x[-6:].numpy())


@pytest.mark.parametrize("case", range(len(CASES)))
def test_layers_map_cells_as_the_flow_maps_reals(case: int) -> None:
    model = flow(*CASES[case])
    coder, stack = LocalBitsBack(model), random_stack()
    before = stack.finish()
    x = smooth(2, CASES[case][2])
    with torch.inference_mode():
        start = coder._dequantize(stack, x)
        cells = start
        z = values(start, torch.float32)
        for layer in coder.layers:
            cells = forward(layer, stack, cells, torch.float32, labels(model, 2))
            z = layer(z, **labels(model, 2))[0]
        # A cell is off by what scales of 12 bits and whole shifts leave, through all layers.
        torch.testing.assert_close(values(cells, torch.float32), z.reshape(cells.shape), rtol=5e-3, atol=2e-2)
        for layer in reversed(coder.layers):
            cells = backward(layer, stack, cells, torch.float32, labels(model, 2))
        np.testing.assert_array_equal(cells, start)
        assert torch.equal(coder._requantize(stack, cells), x)
    assert stack.finish() == before


def test_a_scale_costs_its_logarithm() -> None:
    cells = np.random.default_rng(1).integers(-(2**16), 2**16, (1, 1000))
    for s in (0.03, 0.7, 1.0, 9.5):
        stack, scale = random_stack(), torch.full((1, 1000), s, dtype=torch.float64)
        before, bits = stack.finish(), stack.bits
        out = scaled(stack, cells, scale)
        exact = round(s * DIGIT) / DIGIT
        assert np.abs(out - (cells + 0.5) * exact).max() <= 1 + exact / 2
        assert bits - stack.bits == pytest.approx(1000 * math.log2(exact), abs=2)
        np.testing.assert_array_equal(unscaled(stack, out, scale), cells)
        assert stack.finish() == before
    # Control: another scale gives other cells.
    stack = random_stack()
    out = scaled(stack, cells, torch.full((1, 1000), 0.7))
    assert not np.array_equal(unscaled(stack, out, torch.full((1, 1000), 0.71)), cells)


def test_latents_beyond_the_grid_are_coded_plainly() -> None:
    model = flow(*CASES[0])
    with torch.no_grad():
        model.density.flow.transforms[-1].stages[0].transforms[0].bias.fill_(100.0)
    x = smooth(6, 3)
    stream = encode_chain(LocalBitsBack, model, x)
    assert len(stream) * 8 >= 6 * 8 * x[0].numel()
    assert torch.equal(decode_chain(LocalBitsBack, model, stream, 6), x)


def test_other_flows_are_refused() -> None:
    torch.manual_seed(0)
    for system, options in (("maf", {}), ("flow_pp", {})):
        with pytest.raises(CodecError, match="no codec"):
            codec_of(build_model(system, Space.image(1, 8, 8), **options))
