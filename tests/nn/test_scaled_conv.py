"""A convolution with its normalization folded in."""

from __future__ import annotations

import torch

from codelength.nn.scaled_conv import ScaledConv


def test_it_is_a_convolution_and_an_act_norm() -> None:
    torch.manual_seed(0)
    conv = ScaledConv(3, 4, 3, rate=2.0).double()
    with torch.no_grad():
        conv.bias.normal_()
        conv.log_scale.normal_()
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    plain = torch.nn.functional.conv2d(x, conv.weight, conv.bias, padding=1)
    torch.testing.assert_close(conv(x), plain * torch.exp(2 * conv.log_scale)[:, None, None])


def test_the_first_batch_sets_mean_and_deviation_once() -> None:
    torch.manual_seed(0)
    conv, x = ScaledConv(3, 4, 3, gain=0.1, rate=3.0).double(), 2 + torch.randn(9, 3, 5, 6, dtype=torch.float64)
    out = conv.initialize(x)
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(4, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(
        out.std((0, 2, 3), correction=0), torch.full((4,), 0.1, dtype=torch.float64), atol=1e-9, rtol=0
    )
    state = {key: value.clone() for key, value in conv.state_dict().items()}
    conv.initialize(10 * x)
    assert all(torch.equal(state[key], value) for key, value in conv.state_dict().items())


def test_a_gain_of_zero_starts_at_zero_and_is_never_set() -> None:
    conv = ScaledConv(2, 3, 1, gain=0.0)
    assert not conv.initialize(torch.randn(4, 2, 3, 3)).any()
    assert not conv.log_scale.any()
