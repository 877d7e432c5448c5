"""The passes of a gated residual block by kernel, against the activations they are made of."""

from __future__ import annotations

import pytest
import torch

from codelength import native
from codelength.nn import fused_block
from codelength.nn.activations import activate as plain_activate
from codelength.nn.activations import byte_dropout, concat_elu, gated_add
from codelength.nn.fused_block import activate, elu_dropout, gated_feature

kernels = pytest.mark.skipif(native.missing() is not None, reason=str(native.missing()))
SITES = (5, 6)


def _random(seed: int, channels: int, sites=SITES, dtype=torch.float32, channels_last: bool = True) -> torch.Tensor:
    x = 2 * torch.randn(3, channels, *sites, generator=torch.Generator().manual_seed(seed))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return x.to(dtype).contiguous(memory_format=layout).requires_grad_()


def _both(function, leaves, weights):
    """Outputs and gradients of a function with the kernels and in float64 without, with one stream of random numbers."""
    results = []
    for tensors in (leaves, [t.detach().double().requires_grad_() for t in leaves]):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            outputs = function(*tensors)
        total = sum((out * weight.to(out.dtype)).sum() for out, weight in zip(outputs, weights, strict=True))
        results.append([*outputs, *torch.autograd.grad(total, tensors)])
    return results


def _assert_close(got, wanted, dtype):
    for a, b in zip(got, wanted, strict=True):
        assert a.dtype == dtype
        assert a.shape == b.shape
        tolerance = 1e-5 if dtype == torch.float32 else 2**-5
        torch.testing.assert_close(a.double(), b, rtol=tolerance, atol=tolerance)


@kernels
@pytest.mark.parametrize("uncut", [SITES, (6, 8)])
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("addends", [0, 1, 2])
def test_elu_dropout_is_dropout_of_concat_elu(uncut, channels_last, dtype, addends):
    leaves = [_random(0, 4, uncut, dtype, channels_last)]
    leaves += [_random(10 + i, 4, SITES, dtype, channels_last) for i in range(addends)]

    def function(c, *a):
        return [elu_dropout(c, a, SITES, 0.5, True)]

    got, wanted = _both(function, leaves, [_random(2, 8).detach()])
    # The reference draws its random bytes in the layout of its input: the same one.
    _assert_close(got, wanted, dtype)
    assert 0.3 < float((got[0] == 0).double().mean()) < 0.7
    if uncut != SITES:
        assert not got[1][:, :, 5:].any()
        assert not got[1][..., 6:].any()


@kernels
@pytest.mark.parametrize("channels", [5, 16, 117])  # pieces of 64, 32, 16 numbers and fewer
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_activate_is_the_value_and_its_concat_elu(channels, dtype):
    leaves = [_random(0, channels, (6, 8), dtype), _random(1, channels, (5, 7), dtype)]
    weights = [_random(2, channels).detach(), _random(3, 2 * channels).detach()]
    got, wanted = _both(lambda c, a: activate(c, a, sites=SITES), leaves, weights)
    _assert_close(got, wanted, dtype)
    assert not got[2][:, :, 5:].any()
    # One of the two outputs may go unused, and the addend be missing.
    for index in (0, 1):
        leaf, wide = leaves[0].detach().requires_grad_(), leaves[0].detach().double().requires_grad_()
        gradient = torch.autograd.grad((activate(leaf, sites=SITES)[index] * weights[index]).sum(), leaf)
        reference = plain_activate(wide[:, :, :5, :6])[index]
        _assert_close(gradient, torch.autograd.grad((reference * weights[index]).sum(), wide), dtype)


@kernels
@pytest.mark.parametrize("uncut", [SITES, (6, 8)])
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gated_feature_is_the_gate_and_its_activation(uncut, channels_last, dtype):
    leaves = [_random(0, 5, SITES, dtype, channels_last), _random(1, 10, uncut, dtype, channels_last)]
    weights = [_random(2, 5).detach(), _random(3, 10).detach()]
    got, wanted = _both(lambda x, gated: gated_feature(x, gated, SITES), leaves, weights)
    _assert_close(got, wanted, dtype)
    # One of the two outputs may go unused.
    for index in (0, 1):
        leaf = [t.detach().clone().requires_grad_() for t in leaves]
        gradient = torch.autograd.grad((gated_feature(*leaf, SITES)[index] * weights[index]).sum(), leaf)
        wide = [t.detach().double().requires_grad_() for t in leaves]
        reference = plain_activate(gated_add(wide[0], wide[1][:, :, :5, :6]))[index]
        _assert_close(gradient, torch.autograd.grad((reference * weights[index]).sum(), wide), dtype)


@kernels
def test_control_a_gate_with_its_halves_exchanged_is_another():
    x, gated = _random(0, 5), _random(1, 10)
    exchanged = gated.roll(5, 1)
    assert (gated_feature(x, gated, SITES).value - gated_add(x, exchanged)).abs().max() > 0.1


def test_float64_takes_the_plain_way_and_no_gradient_is_needed():
    c = _random(0, 4, dtype=torch.float64)
    assert not fused_block._fits(c)
    with torch.no_grad():
        assert torch.equal(elu_dropout(c, [], SITES, 0.5, False), concat_elu(c))
        assert torch.equal(elu_dropout(c, [c, c, c], SITES, 0.5, False), concat_elu(4 * c))
        assert byte_dropout(c, 0.5, False) is c
