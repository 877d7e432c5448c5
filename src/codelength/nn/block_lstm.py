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
    """Directions D are independent recurrences over equal blocks, computed together.

    Arithmetic is in float32 at least, block by block in buffers that stay in the cache; what the backward pass reads is kept
    in the inputs' type.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, blocks: Blocks) -> Tensor:
        images, columns = inputs.shape[3], inputs.flatten(2)
        kept = torch.empty_like(columns)
        hidden, cell = (kept.new_empty(*kept.shape[:1], kept.shape[1] // 4, kept.shape[2]) for _ in range(2))
        with torch.autocast(inputs.device.type, enabled=False):
            _forward(columns, _stacked(weight, inputs), (kept, hidden, cell), blocks, images)
        ctx.save_for_backward(weight, kept, hidden, cell)
        ctx.blocks, ctx.images = blocks, images
        return hidden.unflatten(2, inputs.shape[2:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        weight, gates, hidden, cell = ctx.saved_tensors
        into = torch.empty_like(gates)
        with torch.autocast(grad.device.type, enabled=False):
            _backward(grad.flatten(2), _stacked(weight, gates), (gates, cell), into, ctx.blocks, ctx.images)
            into_weight = _weight_gradient(into, hidden, ctx.blocks, ctx.images).to(weight.dtype)
        return into.unflatten(2, grad.shape[2:]), into_weight, None


def _stacked(weight: Tensor, inputs: Tensor) -> Tensor:
    """The taps' weights side by side, (D, 4h, taps * h), for one product a block."""
    wide = torch.float64 if inputs.dtype == torch.float64 else torch.float32
    return weight.transpose(1, 2).flatten(2).to(wide).contiguous()


def _weight_gradient(into: Tensor, hidden: Tensor, blocks: Blocks, images: int) -> Tensor:
    """In one product a tap over all sites, with the tap's states gathered, (D, taps, 4h, h)."""
    by_site = hidden.unflatten(2, (-1, images))
    padded = torch.cat([by_site, torch.zeros_like(by_site[:, :, :1])], dim=2)  # −1 is the zero site at the end
    tables = (blocks.neighbours() % padded.shape[2]).to(hidden.device)
    taps = [torch.bmm(into, padded.index_select(2, table).flatten(2).transpose(1, 2)) for table in tables]
    return torch.stack(taps, dim=1)


class _Before:
    """The block before as the taps read it: one under the other, (D, taps * h, columns)."""

    def __init__(self, like: Tensor, units: int, taps: int, blocks: Blocks, images: int) -> None:
        self.taps, self.units, self.images, self.margin = taps, units, images, blocks.margin * images
        columns = (blocks.widest + 2 * blocks.margin + taps) * images
        self.store = like.new_zeros(like.shape[0], taps * units, columns)

    def put(self, block: Tensor) -> None:
        """Make `block`, (D, h, columns), the block before; zeros follow it."""
        for tap in range(self.taps):
            # Tap t reads the sites first + k + t: its copy lies t sites further left.
            rows, start = slice(tap * self.units, (tap + 1) * self.units), self.margin - tap * self.images
            if start < 0:
                self.store[:, rows, : block.shape[2] + start] = block[:, :, -start:]
            else:
                self.store[:, rows, start : start + block.shape[2]] = block
            self.store[:, rows, max(start + block.shape[2], 0) :] = 0

    def read(self, first: int, count: int) -> Tensor:
        """What a block's taps read, (D, taps * h, count)."""
        return self.store[:, :, first : first + count]


def _forward(inputs: Tensor, weight: Tensor, out: tuple[Tensor, Tensor, Tensor], blocks: Blocks, images: int) -> None:
    """Fill σ of the gates, hidden states and cells, (D, ., S * B), from the inputs of the gates."""
    kept, hidden, cell = out
    units = hidden.shape[1]
    h_before, c_before = (_Before(weight, units, taps, blocks, images) for taps in (blocks.taps, 1))
    for start, end, first in _columns(blocks, images):
        count, at = end - start, slice(start, end)
        a = inputs[:, :, at].to(weight.dtype, copy=True)
        if start:
            a.baddbmm_(weight, h_before.read(first, count))
        o, f, i, s = a.sigmoid_().chunk(4, dim=1)
        c = f * c_before.read(first + blocks.cell * images, count)
        c.addcmul_(i, s, value=2).sub_(i)
        h = _tanh(c).mul_(o)
        kept[:, :, at], hidden[:, :, at], cell[:, :, at] = a, h, c
        h_before.put(h)
        c_before.put(c)


def _backward(
    grad: Tensor, weight: Tensor, kept: tuple[Tensor, Tensor], into: Tensor, blocks: Blocks, images: int
) -> None:
    """Fill the gradient of the inputs, (D, 4h, S * B), from that of the hidden states, (D, h, S * B)."""
    units = grad.shape[1]
    transposed, inner = weight.transpose(1, 2).contiguous(), slice(blocks.margin * images, None)
    into_h, into_c = (_Before(weight, units, 1, blocks, images).store for _ in range(2))
    c_before = _Before(weight, units, 1, blocks, images)
    columns = _columns(blocks, images)
    for index in reversed(range(len(columns))):
        start, end, first = columns[index]
        count, cell_at = end - start, first + blocks.cell * images
        gates, cell = (x[:, :, start:end].to(weight.dtype) for x in kept)
        o, f, i, s = gates.chunk(4, dim=1)
        tanh_c = _tanh(cell)
        d_h = grad[:, :, start:end] + into_h[:, :, inner][:, :, :count]
        d_c = into_c[:, :, inner][:, :, :count] + (d_h * o).mul_(1 - tanh_c.square())
        if index:
            c_before.put(kept[1][:, :, columns[index - 1][0] : start])
        else:
            c_before.store.zero_()
        through = gates.addcmul(gates, gates, value=-1)  # σ' of all gates
        d_o, d_f, d_i, d_s = through.chunk(4, dim=1)
        d_o.mul_(d_h.mul_(tanh_c))
        d_f.mul_(d_c * c_before.read(cell_at, count))
        d_i.mul_(d_c * s.mul(2).sub_(1))
        d_s.mul_(d_c * i).mul_(2)
        into[:, :, start:end] = through
        if index:
            into_c.zero_()
            torch.mul(d_c, f, out=into_c[:, :, cell_at : cell_at + count])
            into_h.zero_()
            for tap, part in enumerate(torch.bmm(transposed, through).chunk(blocks.taps, dim=1)):
                to = first + tap * images
                into_h[:, :, to : to + count] += part


def _columns(blocks: Blocks, images: int) -> Sequence[tuple[int, int, int]]:
    """Columns (start, end) of each block, and the column of the padded block before that its first tap reads."""
    ends = zip(blocks.starts[:-1], blocks.starts[1:], blocks.firsts, strict=True)
    return [(a * images, b * images, first * images) for a, b, first in ends]


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
