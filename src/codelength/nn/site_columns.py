"""Images as matrices with a column for each site and image: (features, sites, images), sites in any order.

What happens at every site alike is then one matrix product, and what the sites of a block read of another is a slice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from codelength.nn.causal_conv import CausalConv


class _GatherSites(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor) -> Tensor:
        ctx.save_for_backward(table)
        ctx.sites = x.shape[1]
        return _gather(x, table)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (table,) = ctx.saved_tensors
        inverse = torch.full((ctx.sites,), -1, device=table.device)
        inside = (table >= 0).nonzero()[:, 0]
        inverse[table[inside]] = inside
        return _gather(grad, inverse), None


def _gather(x: Tensor, table: Tensor) -> Tensor:
    out = x.index_select(1, table.clamp(min=0))
    outside = (table < 0).nonzero()[:, 0]
    return out.index_fill_(1, outside, 0) if len(outside) else out


def gather_sites(x: Tensor, table: Tensor) -> Tensor:
    """Sites in another order: (F, S, B) to (F, len(table), B); −1 gives zeros.

    Args:
        x: Features.
        table: Site to take for each place, each at most once, (S',) int64.
    """
    out: Tensor = _GatherSites.apply(x, table)
    return out


def neighbour_table(sites: Tensor, height: int, width: int, offset: tuple[int, int]) -> Tensor:
    """Place, in an order of sites, of the neighbour of each of them; −1 outside the image.

    Args:
        sites: Raster index of each site, (S,).
        offset: (row, column) of the neighbour relative to the site.
    """
    place = torch.empty_like(sites)
    place[sites] = torch.arange(len(sites), device=sites.device)
    rows, columns = sites // width + offset[0], sites % width + offset[1]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return torch.where(inside, place[torch.where(inside, rows * width + columns, 0)], -1)


def apply_at_sites(conv: CausalConv, x: Tensor, sites: Tensor, size: tuple[int, int]) -> Tensor:
    """A `CausalConv` on columns.

    Args:
        conv: The layer.
        x: (inputs, S, B).
        sites: Raster index of each of the S sites.
        size: Height and width of the image.

    Returns:
        (outputs, S, B).
    """
    matrix = conv.matrix()
    if conv.kernel != (1, 1):
        used = conv.used_taps()
        tables = [neighbour_table(sites, *size, conv.offsets[tap]) for tap in used]
        x = torch.cat(
            [x if conv.offsets[t] == (0, 0) else gather_sites(x, n) for t, n in zip(used, tables, strict=True)]
        )
        matrix = matrix.unflatten(1, (-1, conv.inputs))[:, used].flatten(1)
    return torch.addmm(conv.bias[:, None], matrix, x.flatten(1)).unflatten(1, x.shape[1:])
