"""Convolutional LSTMs over an image, one block of sites after another: rows, or diagonals.

Sites are laid out in an order in which the blocks of a recurrence follow each other, features first, images last:
(features, sites, images). A block is then a slice of columns of one matrix, what a site reads of the block before is another slice, and
a step of the recurrence is a few matrix products and passes over memory that fit into a core's cache. For the sites of a block,

    a = input + Σ_t W_t h_before[t],     o, f, i = σ(a_o), σ(a_f), σ(a_i),     g = tanh(a_g / 2),
    c = f c_before + i g,                h = o tanh(c),

t the taps: neighbours in the block before. As tanh(a / 2) = 2 σ(a) − 1, one sigmoid serves all gates; W and input of g are
twice those of the usual form, and nothing else differs.

Reference: PixelRNN, arXiv:1601.06759, eq. (3) and section 3.2 (skewing: here the order of the sites).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Blocks:
    """How sites follow each other in a recurrence.

    The block before, with `margin` zero sites to either side, is what a block reads: site k of a block reads there the
    sites `first` + k + t for its taps t = 0 .. taps − 1, and of these tap `cell` for the cell.

    Args:
        sites: Raster index of each site, in the order of the blocks, (S,).
        starts: Where each block starts, and the number of sites at the end.
        firsts: `first` of each block.
        taps, cell, margin: See above.
    """

    sites: Tensor
    starts: tuple[int, ...]
    firsts: tuple[int, ...]
    taps: int
    cell: int
    margin: int

    @property
    def widest(self) -> int:
        """Sites of the largest block."""
        return max(b - a for a, b in zip(self.starts[:-1], self.starts[1:], strict=True))

    def neighbours(self) -> Tensor:
        """Place of each site's taps in the order, −1 where there is none, (taps, S)."""
        found = torch.full((self.taps, len(self.sites)), -1)
        for block in range(1, len(self.firsts)):
            before, start, end = self.starts[block - 1 : block + 2]
            for tap in range(self.taps):
                place = self.firsts[block] + torch.arange(end - start) + tap - self.margin
                inside = (place >= 0) & (place < start - before)
                found[tap, start:end] = torch.where(inside, before + place, -1)
        return found


@lru_cache(maxsize=16)
def row_blocks(height: int, width: int, kernel: int) -> Blocks:
    """Rows from the top: a site reads `kernel` sites of the row above, its cell the one above it."""
    starts = tuple(range(0, height * width + 1, width))
    return Blocks(torch.arange(height * width), starts, (0,) * height, kernel, kernel // 2, kernel // 2)


@lru_cache(maxsize=16)
def diagonal_blocks(height: int, width: int) -> Blocks:
    """Diagonals i + j = 0, 1, ...: site (i, j) reads (i − 1, j), then (i, j − 1), which its cell continues."""
    sites, starts, firsts, before = [], [0], [], 0
    for diagonal in range(height + width - 1):
        low, high = max(0, diagonal - width + 1), min(diagonal, height - 1)
        rows = torch.arange(low, high + 1)
        sites.append(rows * width + diagonal - rows)
        starts.append(starts[-1] + len(rows))
        firsts.append(low - before)
        before = low
    return Blocks(torch.cat(sites), tuple(starts), tuple(firsts), 2, 1, 1)


class _BlockLSTM(torch.autograd.Function):
    """Directions D are independent recurrences over equal blocks, computed together."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, blocks: Blocks) -> Tensor:
        directions, features, sites, images = inputs.shape
        wide = torch.float64 if inputs.dtype == torch.float64 else torch.float32
        gates = inputs.to(wide, copy=True).view(directions, features, -1)
        weight = weight.to(wide)
        hidden = gates.new_empty(directions, features // 4, sites * images)
        cell = torch.empty_like(hidden)
        with torch.autocast(inputs.device.type, enabled=False):
            _forward(gates, weight, hidden, cell, blocks, images)
        ctx.save_for_backward(gates, weight, hidden, cell)
        ctx.blocks, ctx.images, ctx.dtype = blocks, images, inputs.dtype
        return hidden.view(directions, -1, sites, images).to(inputs.dtype, copy=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        gates, weight, hidden, cell = ctx.saved_tensors
        with torch.autocast(grad.device.type, enabled=False):
            into = _backward(grad.to(gates.dtype).flatten(2), gates, weight, cell, ctx.blocks, ctx.images)
            # The weights' gradient in one product over all sites, with the taps gathered.
            padded = torch.cat(
                [hidden.unflatten(2, (-1, ctx.images)), hidden.new_zeros(*hidden.shape[:2], 1, ctx.images)], 2
            )
            into_weight = torch.empty_like(weight)
            for tap, places in enumerate(ctx.blocks.neighbours().to(grad.device)):
                read = padded.index_select(2, places % padded.shape[2]).flatten(2)  # −1 is the zero site at the end
                torch.bmm(into, read.transpose(1, 2), out=into_weight[:, tap])
        return into.unflatten(2, (-1, ctx.images)).to(ctx.dtype), into_weight, None


def _forward(gates: Tensor, weight: Tensor, hidden: Tensor, cell: Tensor, blocks: Blocks, images: int) -> None:
    """Turn `gates` from inputs to σ of the gates in place, and fill `hidden` and `cell`, (D, ., S * B)."""
    h_before, c_before = (_padded(hidden, blocks, images) for _ in range(2))
    for start, end, first in _columns(blocks, images):
        a, h, c = gates[:, :, start:end], hidden[:, :, start:end], cell[:, :, start:end]
        count = end - start
        if start:
            for tap in range(blocks.taps):
                at = first + tap * images
                a.baddbmm_(weight[:, tap], h_before[:, :, at : at + count])
        o, f, i, s = a.sigmoid_().chunk(4, dim=1)
        at = first + blocks.cell * images
        torch.mul(f, c_before[:, :, at : at + count], out=c)
        c.addcmul_(i, s, value=2).sub_(i)
        torch.mul(o, _tanh(c), out=h)
        _put(h_before, h, blocks, images)
        _put(c_before, c, blocks, images)


def _backward(grad: Tensor, gates: Tensor, weight: Tensor, cell: Tensor, blocks: Blocks, images: int) -> Tensor:
    """Gradient of the inputs, (D, 4h, S * B), from that of the hidden states, (D, h, S * B)."""
    into = torch.empty_like(gates)
    into_h, into_c = (_padded(cell, blocks, images) for _ in range(2))
    c_before = _padded(cell, blocks, images)
    transposed = weight.transpose(2, 3).contiguous()
    columns = _columns(blocks, images)
    inner = slice(blocks.margin * images, None)
    for index in reversed(range(len(columns))):
        start, end, first = columns[index]
        count = end - start
        o, f, i, s = gates[:, :, start:end].chunk(4, dim=1)
        tanh_c = _tanh(cell[:, :, start:end])
        d_h = grad[:, :, start:end] + into_h[:, :, inner][:, :, :count]
        d_c = into_c[:, :, inner][:, :, :count] + (d_h * o).mul_(1 - tanh_c.square())
        d_o, d_f, d_i, d_s = into[:, :, start:end].chunk(4, dim=1)
        at = first + blocks.cell * images
        before = columns[index - 1] if index else (0, 0, 0)
        _put(c_before, cell[:, :, before[0] : before[1]], blocks, images)
        torch.mul(d_h, tanh_c, out=d_o)
        torch.mul(d_c, c_before[:, :, at : at + count], out=d_f)
        torch.mul(d_c, s.mul(2).sub_(1), out=d_i)
        torch.mul(d_c, i, out=d_s).mul_(2)
        sigma = gates[:, :, start:end]
        through = into[:, :, start:end].mul_(sigma.addcmul(sigma, sigma, value=-1))
        if index == 0:
            break
        into_h.zero_()
        into_c.zero_()
        torch.mul(d_c, f, out=into_c[:, :, at : at + count])
        for tap in range(blocks.taps):
            to = first + tap * images
            into_h[:, :, to : to + count].baddbmm_(transposed[:, tap], through)
    return into


def _columns(blocks: Blocks, images: int) -> Sequence[tuple[int, int, int]]:
    """Columns (start, end) of each block, and the column of the padded block before that its first tap reads."""
    ends = zip(blocks.starts[:-1], blocks.starts[1:], blocks.firsts, strict=True)
    return [(a * images, b * images, first * images) for a, b, first in ends]


def _padded(like: Tensor, blocks: Blocks, images: int) -> Tensor:
    """A zero block with its margins, and room for a block that is one wider, (D, h, columns)."""
    return like.new_zeros(*like.shape[:2], (blocks.widest + 2 * blocks.margin + 1) * images)


def _put(padded: Tensor, block: Tensor, blocks: Blocks, images: int) -> None:
    """Make `block` the block before; zeros follow it."""
    start = blocks.margin * images
    padded[:, :, start : start + block.shape[2]] = block
    padded[:, :, start + block.shape[2] :] = 0


def _tanh(x: Tensor) -> Tensor:
    """tanh(x) = 2 σ(2x) − 1: four times faster than `tanh` on CPUs, exact to round-off of 1."""
    return x.mul(2).sigmoid_().mul_(2).sub_(1)


def block_lstm(inputs: Tensor, weight: Tensor, blocks: Blocks) -> Tensor:
    """Hidden states of D recurrences.

    Args:
        inputs: What the gates o, f, i, g get from the input, (D, 4h, S, B), sites in the order of the blocks.
        weight: W_t of each direction and tap, (D, taps, 4h, h).
        blocks: The blocks.

    Returns:
        h, (D, h, S, B); computed in float32 at least, whatever the inputs' type.
    """
    out: Tensor = _BlockLSTM.apply(inputs, weight, blocks)
    return out
