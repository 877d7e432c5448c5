"""Normalized weights by kernel, against the formula in float64."""

from __future__ import annotations

import pytest
import torch

from codelength import native
from codelength.nn.weight_norm import fits, normalized_weight

kernels = pytest.mark.skipif(native.missing() is not None, reason=str(native.missing()))


def _drawn(shape, output_dim, channels_last):
    generator = torch.Generator().manual_seed(0)
    direction, gain = torch.randn(shape, generator=generator), torch.randn(shape[output_dim], generator=generator)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return direction.contiguous(memory_format=layout).requires_grad_(), gain.requires_grad_()


def _with_gradients(direction, gain, output_dim, factor):
    weight = normalized_weight(direction, gain, output_dim)
    return [weight, *torch.autograd.grad((weight * factor.to(weight.dtype)).sum(), (direction, gain))]


@kernels
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("shape", "output_dim"), [((8, 5, 2, 3), 0), ((7, 8, 2, 2), 1), ((4, 6, 1, 1), 0)])
def test_weights_and_gradients_are_those_of_the_formula(shape, output_dim, channels_last):
    direction, gain = _drawn(shape, output_dim, channels_last)
    assert fits(direction)
    factor = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    wide = [x.detach().double().requires_grad_() for x in (direction, gain)]
    assert not fits(wide[0])
    got, wanted = (_with_gradients(*x, output_dim, factor) for x in ((direction, gain), wide))
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-6)


def test_control_a_weight_normalized_over_the_other_dim_is_another():
    direction, gain = _drawn((6, 6, 2, 2), 0, False)
    assert (normalized_weight(direction, gain, 1) - normalized_weight(direction, gain, 0)).abs().max() > 0.1


@kernels
def test_under_autocast_weights_are_rounded_as_autocast_rounds_them():
    direction, gain = _drawn((8, 5, 2, 3), 0, False)
    weight = normalized_weight(direction, gain, 0)
    with torch.autocast("cpu", torch.bfloat16):
        short = normalized_weight(direction, gain, 0)
    assert short.dtype == torch.bfloat16
    assert torch.equal(short, weight.bfloat16())
    (gradient,) = torch.autograd.grad(short.float().square().sum(), direction)
    assert gradient.dtype == torch.float32
