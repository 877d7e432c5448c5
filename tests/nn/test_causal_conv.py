"""Causal convolutions: what each tap and channel group reads, in images, in columns and at cached sites."""

from __future__ import annotations

import pytest
import torch

from codelength.nn.causal_conv import CausalConv, spread_groups
from codelength.nn.site_cache import CachedCausalConv, Places, Ring, group_slices
from codelength.nn.site_columns import apply_at_sites, gather_sites, neighbour_table

SIZE = (5, 6)
KERNELS = [((2, 3), (1, 1)), ((3, 5), (2, 2)), ((1, 3), (0, 2)), ((1, 1), (0, 0)), ((3, 7), (3, 3)), ((4, 7), (3, 3))]


def _conv(kernel, before, own="B", groups=2, inputs=4, outputs=6):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        conv = CausalConv(spread_groups(inputs, groups), spread_groups(outputs, groups), kernel, before, own).double()
        torch.nn.init.normal_(conv.bias)
    return conv


def _images(n=2, features=4):
    return torch.randn(n, features, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def _reads(conv, row=3, column=2):
    """Offset -> (outputs, inputs): which output at a site reads which input there."""
    x = _images(1).requires_grad_()
    out = conv(x)[0, :, row, column]
    jacobian = torch.stack([torch.autograd.grad(o, x, retain_graph=True)[0][0] for o in out]) != 0
    found = jacobian.any(0).any(0).nonzero().tolist()
    return {(r - row, c - column): jacobian[:, :, r, c] for r, c in found}


@pytest.mark.parametrize("own", ["A", "B"])
def test_masks_leave_the_past_and_the_channels_before(own):
    reads = _reads(_conv((3, 5), (2, 2), own))
    expected = {(r, c) for r in (-2, -1) for c in range(-2, 3)} | {(0, -2), (0, -1), (0, 0)}
    assert set(reads) == expected
    before, after = spread_groups(4, 2), spread_groups(6, 2)
    own_tap = before[None] < after[:, None] if own == "A" else before[None] <= after[:, None]
    assert torch.equal(reads[0, 0], own_tap)
    assert all(reads[offset].all() for offset in expected - {(0, 0)})


def test_mask_a_with_one_group_hides_the_site():
    assert (0, 0) not in _reads(_conv((1, 3), (0, 2), "A", groups=1))


def test_without_masks_the_kernel_is_whole():
    conv = _conv((2, 3), (1, 1), "all")
    assert conv.mask is None
    assert set(_reads(conv)) == {(r, c) for r in (-1, 0) for c in (-1, 0, 1)}


def test_kernels_that_look_ahead_are_refused():
    groups = spread_groups(2, 1)
    for kernel, before in (((2, 3), (0, 1)), ((1, 3), (0, 0))):
        with pytest.raises(ValueError, match="reaches below"):
            CausalConv(groups, groups, kernel, before)


def test_outputs_start_with_the_scale_asked_for():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        conv = CausalConv(spread_groups(64, 2), spread_groups(400, 2), (3, 5), (2, 2), "B", init_scale=0.5)
        out = conv(torch.randn(4, 64, 16, 16))[:, :, 2:, 2:-2]
    assert out.std().item() == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize(("kernel", "before"), KERNELS)
def test_columns_in_any_order_give_the_convolution(kernel, before):
    conv, x = _conv(kernel, before), _images()
    sites = torch.randperm(x[0, 0].numel(), generator=torch.Generator().manual_seed(2))
    columns = x.flatten(2).permute(1, 2, 0)[:, sites]  # (F, S, B)
    found = apply_at_sites(conv, columns, sites, SIZE)
    torch.testing.assert_close(found, conv(x).flatten(2).permute(1, 2, 0)[:, sites], rtol=0, atol=1e-12)


def test_gathered_sites_and_their_gradient():
    x = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    table = torch.tensor([3, -1, 0, 4])
    out = gather_sites(x, table)
    assert torch.equal(out[:, [0, 2, 3]], x[:, [3, 0, 4]])
    assert out[:, 1].abs().max() == 0
    assert torch.autograd.gradcheck(lambda y: gather_sites(y, table), x)


def test_neighbours_end_at_the_border():
    sites = torch.tensor([3, 1, 0, 2])  # of a 2 x 2 image
    assert neighbour_table(sites, 2, 2, (0, -1)).tolist() == [3, 2, -1, -1]
    assert neighbour_table(sites, 2, 2, (-1, 0)).tolist() == [1, -1, -1, 2]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("kernel", "before"), KERNELS)
def test_cached_sites_give_the_convolution(kernel, before, groups):
    """Site after site, group after group, in a ring of fewer rows than the image has."""
    conv, x = _conv(kernel, before, groups=groups), _images()
    cached = CachedCausalConv(conv, Ring.of_raster(2, SIZE[1], 3), groups)
    inputs, expected = group_slices(conv.in_groups, groups), conv(x)
    for row in range(SIZE[0]):
        for column in range(SIZE[1]):
            places = Places(Ring.of_raster(2, SIZE[1], 3), torch.tensor([row]), torch.tensor([column]))
            for group in range(groups):
                cached.put(places, x[:, inputs[group], row, column].unsqueeze(1), inputs[group])
                found = cached(places, group)[:, 0]
                wanted = expected[:, conv.out_groups == group, row, column]
                torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
