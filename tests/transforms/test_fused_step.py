"""Glow's step by kernels, against its three transforms one by one in float64."""

from __future__ import annotations

import copy

import pytest
import torch

from codelength import native
from codelength.bench.operations import without_kernels
from codelength.models.flows.glow import coupling_kind, glow_step
from codelength.nn import coupling_network
from codelength.transforms import ActNorm, Compose, InvertibleConv

kernels = pytest.mark.skipif(native.missing() is not None, reason=str(native.missing()))


def _step(channels: int, kind: str, randomize) -> Compose:
    torch.manual_seed(0)
    # A random triangular matrix of many channels is near singular unless it is near the identity.
    return randomize(Compose(glow_step(channels, 8, coupling_kind(kind))), scale=0.3 if channels < 100 else 0.01)


def _with_gradients(flow, x, factor):
    x = x.detach().requires_grad_()
    z, log_det = flow(x)
    total = (z * factor.to(z.dtype)).sum() + (log_det * log_det.detach().cos()).sum()
    return [z, log_det, *torch.autograd.grad(total, [x, *flow.parameters()])]


@kernels
@pytest.mark.parametrize(("channels", "sites"), [(12, (4, 6)), (7, (3, 3)), (1100, (1, 2))])
@pytest.mark.parametrize("kind", ["affine", "additive"])
def test_the_step_is_the_three_transforms(channels, sites, kind, randomize):
    if channels > 1000 and kind == "additive":
        pytest.skip("many channels are a case of the affine kernel")
    flow = _step(channels, kind, randomize)
    generator = torch.Generator().manual_seed(1)
    x, factor = torch.randn(3, channels, *sites, generator=generator), torch.randn(3, channels, *sites)
    wide = copy.deepcopy(flow).double()
    got, wanted = _with_gradients(flow, x, factor), _with_gradients(wide, x.double(), factor.double())
    for a, b in zip(got, wanted, strict=True):
        a, b = a.detach(), b.detach()
        scale = float(b.abs().max()) + 1e-3
        torch.testing.assert_close(a.double() / scale, b / scale, rtol=0, atol=2e-5)
    # It is the fused step that was compared, and its inverse undoes it.
    with without_kernels():
        plain = flow(x)[0]
    assert not torch.equal(plain, got[0])
    torch.testing.assert_close(flow.inverse(got[0].detach())[0], x, rtol=0, atol=1e-3)


@kernels
def test_control_a_step_with_another_bias_is_another(randomize):
    flow = _step(12, "affine", randomize)
    x = torch.randn(2, 12, 4, 4, generator=torch.Generator().manual_seed(1))
    before = flow(x)[0]
    with torch.no_grad():
        flow.transforms[0].bias.add_(0.1)
    assert (flow(x)[0] - before).abs().max() > 0.01


@kernels
def test_bfloat16_is_for_the_network_alone(randomize):
    flow = _step(12, "affine", randomize)
    x = torch.randn(2, 12, 4, 4, generator=torch.Generator().manual_seed(1))
    z, log_det = flow(x)
    with torch.autocast("cpu", torch.bfloat16):
        short, log_det_short = flow(x)
    assert short.dtype == log_det_short.dtype == torch.float32
    assert torch.equal(short[:, :6], z[:, :6])  # what stays never passed through bfloat16
    assert 0 < (short - z).abs().max() < 0.1 * z.abs().max()
    assert (log_det - log_det_short).abs().max() < 1e-2 * z[0].numel()  # nats a number


@kernels
def test_gradients_under_bfloat16_are_those_of_float64_up_to_its_rounding(randomize):
    flow = _step(12, "affine", randomize)
    generator = torch.Generator().manual_seed(1)
    x, factor = torch.randn(3, 12, 4, 6, generator=generator), torch.randn(3, 12, 4, 6, generator=generator)
    wanted = _with_gradients(copy.deepcopy(flow).double(), x.double(), factor.double())
    with torch.autocast("cpu", torch.bfloat16):
        got = _with_gradients(flow, x, factor)
    for a, b in zip(got, wanted, strict=True):
        assert (a - b).abs().max() < 0.05 * b.abs().max() + 1e-2


@kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("threads", [1, 2])
def test_gradient_of_relu_and_its_sum(dtype, threads):
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(700, 150, generator=generator).relu().to(dtype)
    grad = torch.randn(700, 150, generator=generator).to(dtype)
    wanted = torch.where(h > 0, grad, 0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        total = coupling_network._relu_backward(h, grad)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(grad, wanted)
    torch.testing.assert_close(total, wanted.float().sum(0), rtol=1e-4, atol=1e-4)


@kernels
def test_without_a_coupling_two_transforms_are_one_product(randomize):
    torch.manual_seed(0)
    flow = randomize(Compose([ActNorm(5), InvertibleConv(5)]))
    x = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(1))
    z, log_det = copy.deepcopy(flow).double()(x.double())
    torch.testing.assert_close(flow(x)[0].double(), z, rtol=0, atol=1e-4)
    torch.testing.assert_close(flow(x)[1].double(), log_det, rtol=1e-5, atol=1e-4)
