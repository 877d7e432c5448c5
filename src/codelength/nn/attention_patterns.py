"""Causal attention patterns, each computed in blocks, so that T x T scores never exist.

A pattern says which keys each of T queries sees, never one after the query, and computes attention over them:

    out_i = Σ_{j in A_i} softmax_j(q_i · k_j / sqrt(d)) v_j,    A_i a subset of {0, ..., i}.

`keys(i)` is A_i from the definition; `attend` reshapes or gathers queries and keys into blocks whose scores are nearly all
wanted.

    Full           all positions before and the query's own          T² scores
    LocalBlocks    its block up to itself, and `memory` before the block    T (query + memory)
    Strided        every `stride`-th position before it              T² / stride
    Summaries      the last positions of every block before it       about T² summary / (2 block)
    GridBlocks     a rectangle of an image around the query's block  T times the rectangle

References: Image Transformer, arXiv:1802.05751, section 3.3 (LocalBlocks, GridBlocks); Sparse Transformer, arXiv:1904.10509,
section 4.3 (LocalBlocks with reach, Strided, Summaries).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


class Pattern(ABC):
    """Which keys a query sees. Patterns are values: equal patterns share their plans."""

    @abstractmethod
    def keys(self, i: int) -> Sequence[int]:
        """A_i in increasing order; it holds i itself or position 0, so that no query is left without a key."""

    @abstractmethod
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of T queries: q and k are (N, T, d), v is (N, T, e), N heads of images; (N, T, e)."""

    @abstractmethod
    def num_scores(self, length: int) -> int:
        """Products q · k that `attend` computes for `length` queries of one head, masked ones included."""

    def mask(self, length: int) -> Tensor:
        """The pattern as a table, (T, T) bool: entry (i, j) says whether query i sees key j."""
        table = torch.zeros(length, length, dtype=torch.bool)
        for i in range(length):
            table[i, list(self.keys(i))] = True
        return table


def dense_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attention with all T x T scores in memory: what patterns are checked and measured against.

    Args:
        q, k, v: (N, T, d), (N, T, d), (N, T, e).
        mask: (T, T) bool.
    """
    scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5  # (N, T, T)
    return scores.masked_fill(~mask, -torch.inf).softmax(-1) @ v


@dataclass(frozen=True)
class Full(Pattern):
    """Every position up to the query's own."""

    def keys(self, i: int) -> Sequence[int]:
        return range(i + 1)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = F.scaled_dot_product_attention(q.unsqueeze(1), k.unsqueeze(1), v.unsqueeze(1), is_causal=True)
        return out.squeeze(1)

    def num_scores(self, length: int) -> int:
        return length * length


@dataclass(frozen=True)
class LocalBlocks(Pattern):
    """Blocks of `query` positions see their own block causally and the `memory` positions before it.

    Args:
        query: Positions of a block.
        memory: Positions before the block that all of it sees.
        reach: Where given, a query sees no key more than `reach` positions back. With query = memory = reach it is a
            sliding window.
    """

    query: int
    memory: int
    reach: int | None = None

    def keys(self, i: int) -> Sequence[int]:
        start = max(0, i - i % self.query - self.memory)
        return range(start if self.reach is None else max(start, i - self.reach), i + 1)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        size, memory, length = self.query, self.memory, q.shape[1]
        q, k, v = (_pad(x, size) for x in (q, k, v))
        mask = self._block_mask(q.device)  # (query, memory + query)
        blocks = q.shape[1] // size
        early = min(blocks, -(-memory // size))  # blocks whose memory begins before the sequence
        parts = []
        for b in range(early):
            start, end = max(0, b * size - memory), (b + 1) * size
            seen = mask[:, size + memory - (end - start) :]
            parts.append(_attend(q[:, None, b * size : end], k[:, None, start:end], v[:, None, start:end], seen)[:, 0])
        if early < blocks:
            first = early * size
            keys, values = (self._with_memory(x, first) for x in (k, v))
            rest = _attend(q[:, first:].unflatten(1, (-1, size)), keys, values, mask)  # (N, blocks, query, e)
            parts.append(rest.flatten(1, 2))
        return torch.cat(parts, dim=1)[:, :length]

    def _with_memory(self, x: Tensor, first: int) -> Tensor:
        """Each block from position `first` on, after its memory: (N, T, d) to (N, blocks, memory + query, d).

        Put together from shifted copies: the backward pass of overlapping views is slow.
        """
        size, part = self.query, self.memory % self.query
        starts = [first - self.memory] * (part > 0)
        starts += range(first - self.memory + part, first + 1, size)
        blocks = [x[:, start : start + x.shape[1] - first].unflatten(1, (-1, size)) for start in starts]
        if part:
            blocks[0] = blocks[0][:, :, :part]
        return torch.cat(blocks, dim=2)

    def _block_mask(self, device: torch.device) -> Tensor:
        distance = torch.arange(self.query, device=device)[:, None] + self.memory
        distance = distance - torch.arange(self.query + self.memory, device=device)
        return (distance >= 0) & (distance <= (self.reach if self.reach is not None else self.query + self.memory))

    def num_scores(self, length: int) -> int:
        blocks = -(-length // self.query)
        return sum(self.query * min((b + 1) * self.query, self.query + self.memory) for b in range(blocks))


@dataclass(frozen=True)
class Strided(Pattern):
    """Every `stride`-th position before the query, and its own: a column, where a row is `stride` long."""

    stride: int

    def keys(self, i: int) -> Sequence[int]:
        return range(i % self.stride, i + 1, self.stride)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        length = q.shape[1]
        q, k, v = (_pad(x, self.stride).unflatten(1, (-1, self.stride)).transpose(1, 2) for x in (q, k, v))
        rows = q.shape[2]
        mask = torch.ones(rows, rows, dtype=torch.bool, device=q.device).tril()
        out = _attend(q, k, v, mask)  # (N, stride, T / stride, e)
        return out.transpose(1, 2).flatten(1, 2)[:, :length]

    def num_scores(self, length: int) -> int:
        rows = -(-length // self.stride)
        return self.stride * rows * rows


@dataclass(frozen=True)
class Summaries(Pattern):
    """`summary` positions near the end of every block of `block`: where what a block holds can be gathered.

    Args:
        block: Positions of a block.
        summary: Positions that all later queries see: those `summary` ones that lie `part` * summary from the end.
        part: Which of a block's parts, so that heads can take distinct ones (section 4.3 of the paper).

    Departure: position 0, which holds the start symbol, is seen too; the paper's A_i is empty in the first block.
    """

    block: int
    summary: int
    part: int = 0

    def keys(self, i: int) -> Sequence[int]:
        return self._positions(i + 1)

    def _positions(self, length: int) -> list[int]:
        last = self.block - self.part * self.summary
        start = last - self.summary
        return [j for j in range(length) if j == 0 or start <= j % self.block < last]

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        length = q.shape[1]
        keys = torch.tensor(self._positions(length), device=q.device)
        k, v = k[:, None, keys], v[:, None, keys]
        queries = torch.arange(length, device=q.device)[:, None]
        parts = []
        for start, end, seen in self._chunks(length):  # no chunk meets the summaries after it
            mask = keys[:seen] <= queries[start:end]
            parts.append(_attend(q[:, None, start:end], k[:, :, :seen], v[:, :, :seen], mask)[:, 0])
        return torch.cat(parts, dim=1)

    def _chunks(self, length: int) -> list[tuple[int, int, int]]:
        """Start and end of eight runs of queries, and how many summaries they may see."""
        size = -(-length // (8 * self.block)) * self.block
        ends = [min(length, start + size) for start in range(0, length, size)]
        return [(end - 1 - (end - 1) % size, end, len(self._positions(end))) for end in ends]

    def num_scores(self, length: int) -> int:
        return sum((end - start) * seen for start, end, seen in self._chunks(length))


@dataclass(frozen=True)
class GridBlocks(Pattern):
    """Rectangular blocks of an image, coded one block after the other; a block sees a larger rectangle around it.

    The sequence holds the sites block by block, both blocks and the sites of a block in raster order, each site as
    `channels` positions.

    Args:
        height, width: The image.
        block: Rows and columns of a block; they must divide the image.
        memory: Rows above the block, and columns to either side, that all of the block sees as far as they come before.
        channels: Positions of a site.
    """

    height: int
    width: int
    block: tuple[int, int]
    memory: tuple[int, int]
    channels: int = 1

    def sites(self) -> list[int]:
        """Raster index of the sites in coding order."""
        raster = np.arange(self.height * self.width).reshape(self.height, self.width)
        (bh, bw), (rows, columns) = self.block, (self.height // self.block[0], self.width // self.block[1])
        return raster.reshape(rows, bh, columns, bw).transpose(0, 2, 1, 3).reshape(-1).tolist()

    def keys(self, i: int) -> Sequence[int]:
        table, _ = _grid_tables(self)
        seen = table[i // (self.block[0] * self.block[1] * self.channels)]
        return seen[(seen >= 0) & (seen <= i)].tolist()

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        table, mask = _grid_tables(self)
        index = torch.from_numpy(table.clip(min=0)).to(q.device)  # (blocks, M)
        keys, values = (_gather(x, index) for x in (k, v))
        out = _attend(q.unflatten(1, (len(table), -1)), keys, values, mask.to(q.device))  # (N, blocks, query, e)
        return out.flatten(1, 2)

    def num_scores(self, length: int) -> int:
        table, _ = _grid_tables(self)
        return length * table.shape[1]


@lru_cache(maxsize=16)
def _grid_tables(pattern: GridBlocks) -> tuple[np.ndarray, Tensor]:
    """Keys of each block in increasing order, (blocks, M), −1 where it has fewer; which of them each query sees."""
    (bh, bw), (mh, mw), channels = pattern.block, pattern.memory, pattern.channels
    sites = np.array(pattern.sites())
    place = np.empty_like(sites)
    place[sites] = np.arange(len(sites))
    place = place.reshape(pattern.height, pattern.width)
    lists = []
    for b in range(len(sites) // (bh * bw)):
        row, column = divmod(int(sites[b * bh * bw]), pattern.width)
        near = place[max(0, row - mh) : row + bh, max(0, column - mw) : column + bw + mw].ravel()
        near = np.sort(near[near < (b + 1) * bh * bw])
        lists.append((near[:, None] * channels + np.arange(channels)).ravel())
    table = np.full((len(lists), max(map(len, lists))), -1)
    for b, near in enumerate(lists):
        table[b, : len(near)] = near
    queries = torch.arange(len(sites) * channels).view(len(lists), -1, 1)
    keys = torch.from_numpy(table).unsqueeze(1)
    return table, (keys >= 0) & (keys <= queries)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attention inside blocks: (N, blocks, Q, d), (N, blocks, M, d), (N, blocks, M, e) and a mask that broadcasts to Q x M.

    The fused kernel keeps no scores. Its backward pass for half precision on CPUs takes three to eight times as long as
    plain products, whose scores of one block are few, so there those are taken.
    """
    if q.device.type != "cpu" or q.dtype in (torch.float32, torch.float64):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    bias = torch.zeros(mask.shape, dtype=q.dtype).masked_fill_(~mask, -torch.inf)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2) + bias  # (N, blocks, Q, M)
    return scores.softmax(-1) @ v


def _gather(x: Tensor, index: Tensor) -> Tensor:
    """Rows of x, (N, T, d), at index (blocks, M): (N, blocks, M, d).

    As an embedding look-up with positions first: its backward pass adds long rows, where that of an index adds short ones.
    """
    rows = F.embedding(index, x.transpose(0, 1).flatten(1))  # (blocks, M, N d)
    return rows.unflatten(2, (x.shape[0], -1)).permute(2, 0, 1, 3)


def _pad(x: Tensor, multiple: int) -> Tensor:
    """Zeros after the sequence, (N, T, d), up to a multiple of `multiple`; causal patterns never see them."""
    missing = -x.shape[1] % multiple
    return F.pad(x, (0, 0, 0, missing)) if missing else x
