"""Activations against their definitions and finite differences; dropout against its statistics."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from codelength.nn.activations import activate, byte_dropout, concat_elu, gated_add


def _random(*shape: int, dtype: torch.dtype = torch.float64, channels_last: bool = False) -> torch.Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if channels_last else x


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-15), (torch.float32, 1e-7), (torch.bfloat16, 1e-2)])
def test_concat_elu_is_elu_of_both_signs(dtype, atol, channels_last):
    x = 3 * _random(2, 5, 4, 3, dtype=dtype, channels_last=channels_last)
    out = concat_elu(x)
    assert out.dtype == dtype
    assert out.stride(1) == (1 if channels_last else 12)
    torch.testing.assert_close(out, F.elu(torch.cat([x, -x], dim=1)), rtol=0, atol=atol)
    feature = activate(x)
    assert feature.value is x
    assert torch.equal(feature.active, out)


def test_concat_elu_keeps_small_values_in_half_precision():
    x = torch.full((1, 1), -0.01, dtype=torch.bfloat16)
    assert concat_elu(x)[0, 0].item() == pytest.approx(-0.01, rel=0.01)


def test_gradients_match_finite_differences():
    x, gated = _random(2, 3, 2, 2).requires_grad_(), _random(2, 6, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(concat_elu, x)
    assert torch.autograd.gradcheck(gated_add, (x, gated))


@pytest.mark.parametrize("channels_last", [False, True])
def test_gated_add_on_a_cropped_view(channels_last):
    gated = _random(2, 6, 5, 4, channels_last=channels_last)[:, :, :4, :3]
    x = _random(2, 3, 4, 3, channels_last=channels_last)
    torch.testing.assert_close(gated_add(x, gated), x + F.glu(gated, dim=1))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "gaps"])
@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean_and_drops_its_share(probability, layout):
    x = torch.ones(20, 16, 10, 10)
    if layout == "channels_last":
        x = x.contiguous(memory_format=torch.channels_last)
    if layout == "gaps":
        x = torch.ones(20, 16, 11, 10)[:, :, 1:]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        out = byte_dropout(x, probability, True)
    dropped = round(256 * probability) / 256
    assert out.shape == x.shape
    assert out[out != 0].unique().numel() == 1
    assert out.max().item() == pytest.approx(1 / (1 - dropped), rel=1e-6)
    deviation = math.sqrt(dropped * (1 - dropped) / out.numel())
    assert abs((out == 0).double().mean() - dropped) < 5 * deviation
    assert abs(out.double().mean() - 1) < 5 * deviation / (1 - dropped)
    # Neighbours in memory are dropped independently.
    flat = (out == 0).permute(0, 2, 3, 1).flatten().double() - dropped
    assert abs((flat[1:] * flat[:-1]).mean()) < 5 * dropped * (1 - dropped) / math.sqrt(out.numel())


def test_dropout_is_off_outside_of_training_and_at_zero():
    x = torch.ones(2, 2, 2, 2)
    assert byte_dropout(x, 0.5, False) is x
    assert byte_dropout(x, 0.0, True) is x


def test_dropout_passes_the_gradient_of_what_it_keeps():
    x = torch.ones(1, 4, 8, 8, requires_grad=True)
    out = byte_dropout(x, 0.5, True)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())
