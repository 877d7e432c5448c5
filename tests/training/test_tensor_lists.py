"""Passes over lists of tensors, against PyTorch's functions one tensor at a time."""

from __future__ import annotations

import copy
import math
import weakref

import pytest
import torch
from torch import nn

from codelength import native
from codelength.training import tensor_lists
from codelength.training.tensor_lists import ListAdamW, Pieces

kernels = pytest.mark.skipif(native.missing() is not None, reason=str(native.missing()))


def _tensors(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3,), (), (5, 7), (4, 6, 3, 3), (2 * tensor_lists.PIECE + 17,), (1, 1)]
    tensors = [torch.randn(shape, generator=generator) for shape in shapes]
    tensors[3] = tensors[3].to(memory_format=torch.channels_last)
    return tensors


@kernels
def test_norm_and_average():
    x, y = _tensors(0), _tensors(1)
    wanted = torch.cat([t.flatten().double() for t in x]).norm()
    assert Pieces(**{"from": x}).norm() == pytest.approx(float(wanted), rel=1e-12)
    moved = [torch.lerp(a, b, 0.3) for a, b in zip(x, y, strict=True)]
    Pieces(to=x, **{"from": y}).run("lerp", share=0.3)
    for a, b in zip(x, moved, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
    x[1].fill_(torch.nan)
    assert math.isnan(Pieces(**{"from": x}).norm())


@kernels
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_steps_are_those_of_adamw(weight_decay):
    ours = [nn.Parameter(t) for t in _tensors(0)]
    theirs = copy.deepcopy(ours)
    options = {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": weight_decay}
    mine, reference = ListAdamW(ours, fused=True, **options), torch.optim.AdamW(theirs, **options)
    for step in range(5):
        for group in (*mine.param_groups, *reference.param_groups):
            group["lr"] = 0.01 / (1 + step)
        for a, b, gradient in zip(ours, theirs, _tensors(10 + step), strict=True):
            a.grad, b.grad = gradient.clone(), gradient
        mine.step()
        reference.step()
    assert mine._known  # its own step was taken
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-6, atol=2e-7)
        assert float(mine.state[a]["step"]) == 5
    # A negative control: another step differs by more than round-off.
    mine.step()
    assert (ours[2] - theirs[2]).abs().max() > 1e-4


@kernels
def test_a_parameter_without_gradient_leaves_the_step_to_pytorch():
    ours = [nn.Parameter(t) for t in _tensors(0)]
    theirs = copy.deepcopy(ours)
    mine, reference = ListAdamW(ours, fused=True), torch.optim.AdamW(theirs, fused=True)
    for step in range(4):
        for i, (a, b, gradient) in enumerate(zip(ours, theirs, _tensors(10 + step), strict=True)):
            missing = step == 2 and i == 0
            a.grad, b.grad = (None, None) if missing else (gradient.clone(), gradient)
        mine.step()
        reference.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-6, atol=2e-7)
    assert [float(mine.state[p]["step"]) for p in ours[:2]] == [3, 4]


@kernels
def test_pieces_keep_no_tensor_alive():
    x = torch.zeros(3)
    seen = weakref.ref(x)
    pieces = Pieces(**{"from": [x]})
    del x
    assert seen() is None
    assert len(pieces.rows) == 1


@kernels
def test_what_does_not_fit():
    x = _tensors(0)
    assert tensor_lists.fits(x, _tensors(1))
    assert not tensor_lists.fits(x, x[1:])
    assert not tensor_lists.fits([x[2]], [x[2].t().contiguous().t()])
    assert not tensor_lists.fits([x[2].double()])
    assert not tensor_lists.fits([x[2][:, ::2]])
