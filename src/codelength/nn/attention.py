"""Causal multi-head attention, residual blocks and stacks of them, in parallel over a sequence or a position at a time.

    pre-activation:   x + drop(a(norm x)),       then   x + drop(f(norm x))
    post-activation:  norm(x + drop(a(x))),      then   norm(x + drop(f(x)))

a is attention over a pattern (`attention_patterns`), f(x) = W_2 g(W_1 x + b_1) + b_2. `forward` and `step` compute the same
numbers: the one for all positions of (B, T, width), the other for one position of (n, width) with the keys and values kept
in caches.

References: arXiv:1706.03762; pre-activation as in Sparse Transformer, arXiv:1904.10509, section 5.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from codelength.errors import UsageError
from codelength.nn.activations import byte_dropout
from codelength.nn.attention_cache import KeyValueCache, cache_plan
from codelength.nn.attention_patterns import Pattern

Activation = Literal["gelu", "relu"]


class Attention(nn.Module):
    """Multi-head attention over patterns.

    Args:
        width: Width of the inputs and outputs.
        heads: Number of heads.
        patterns: The pattern of each head, or one for all.
        key_width, value_width: Width of all heads' keys and values together; `width` by default.

    Raises:
        UsageError: The widths are no multiples of `heads`, or the number of patterns fits no heads.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        patterns: Sequence[Pattern],
        *,
        key_width: int | None = None,
        value_width: int | None = None,
    ) -> None:
        super().__init__()
        key_width, value_width = key_width or width, value_width or width
        if heads < 1 or key_width % heads or value_width % heads:
            raise UsageError(
                f"attention: keys {key_width} and values {value_width} wide with heads={heads}; wanted multiples of heads"
            )
        if len(patterns) not in (1, heads):
            raise UsageError(f"attention: {len(patterns)} patterns for {heads} heads; wanted one, or one a head")
        self.heads = heads
        each = list(patterns) * (heads if len(patterns) == 1 else 1)
        self.groups = [(pattern, len(list(run))) for pattern, run in groupby(each)]
        self.query, self.key = nn.Linear(width, key_width), nn.Linear(width, key_width)
        self.value, self.out = nn.Linear(width, value_width), nn.Linear(value_width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) to (B, T, width)."""
        q, k, v = self._project(x)  # (B, T, heads, d)
        parts, start = [], 0
        for pattern, count in self.groups:
            mine = [p[:, :, start : start + count].transpose(1, 2).flatten(0, 1) for p in (q, k, v)]
            parts.append(pattern.attend(*mine).unflatten(0, (len(x), count)))  # (B, count, T, e)
            start += count
        joined = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        out: Tensor = self.out(joined.transpose(1, 2).flatten(2))
        return out

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)) for layer in (self.query, self.key, self.value))
        return q, k, v

    def caches(self, n: int, length: int, group: int) -> list[KeyValueCache]:
        """Empty caches for n sequences of `length` positions that come in groups of `group`."""
        key, value = self.key.out_features // self.heads, self.value.out_features // self.heads
        return [
            KeyValueCache(cache_plan(pattern, length, group), n, count, key, value, self.out.weight.detach())
            for pattern, count in self.groups
        ]

    def num_cached(self, length: int, group: int) -> int:
        """Numbers that the caches hold for one sequence."""
        each = (self.key.out_features + self.value.out_features) // self.heads
        return sum(cache_plan(pattern, length, group).size * count * each for pattern, count in self.groups)

    def step(self, x: Tensor, position: int, caches: list[KeyValueCache]) -> Tensor:
        """One position, (n, width) to (n, width)."""
        q, k, v = self._project(x)  # (n, heads, d)
        parts, start = [], 0
        for cache, (_, count) in zip(caches, self.groups, strict=True):
            parts.append(cache.step(position, *(p[:, start : start + count] for p in (q, k, v))))
            start += count
        joined = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        out: Tensor = self.out(joined.flatten(1))
        return out


class Block(nn.Module):
    """Attention and a two-layer network at every position, each in a residual branch.

    Args:
        attention: The attention.
        width: Width of the stream.
        hidden: Units of the two-layer network.
        activation: "gelu" (in its tanh form) or "relu".
        dropout: At the end of both branches, in training.
        pre: Normalize the branches' inputs; otherwise the sums.
    """

    def __init__(
        self,
        attention: Attention,
        width: int,
        hidden: int,
        *,
        activation: Activation = "gelu",
        dropout: float = 0.0,
        pre: bool = True,
    ) -> None:
        super().__init__()
        self.attention, self.activation, self.dropout, self.pre = attention, activation, dropout, pre
        self.norm_attention, self.norm_network = nn.LayerNorm(width), nn.LayerNorm(width)
        self.widen, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) to (B, T, width)."""
        return self._branches(x, self.attention)

    def step(self, x: Tensor, position: int, caches: list[KeyValueCache]) -> Tensor:
        """One position, (n, width) to (n, width)."""
        return self._branches(x, lambda y: self.attention.step(y, position, caches))

    def _branches(self, x: Tensor, attend: Callable[[Tensor], Tensor]) -> Tensor:
        if self.pre:
            x = x + self._drop(attend(self.norm_attention(x)))
            return x + self._drop(self._network(self.norm_network(x)))
        x = self.norm_attention(x + self._drop(attend(x)))
        out: Tensor = self.norm_network(x + self._drop(self._network(x)))
        return out

    def _network(self, x: Tensor) -> Tensor:
        hidden = self.widen(x)
        hidden = F.gelu(hidden, approximate="tanh") if self.activation == "gelu" else F.relu(hidden)
        out: Tensor = self.narrow(hidden)
        return out

    def _drop(self, x: Tensor) -> Tensor:
        return byte_dropout(x, self.dropout, self.training)


class Stack(nn.Module):
    """Blocks one after the other; after pre-activation blocks a last normalization.

    Args:
        blocks: The blocks.
        width: Width of the stream.
        checkpoint: In training keep only the blocks' inputs for the backward pass and compute the rest again: memory of one
            block instead of all for a third more time (arXiv:1604.06174; section 5.4 of the Sparse Transformer).
    """

    def __init__(self, blocks: Sequence[Block], width: int, *, checkpoint: bool = False) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width) if any(block.pre for block in blocks) else nn.Identity()
        self.checkpoint = checkpoint

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) to (B, T, width)."""
        for block in self.blocks:
            if self.checkpoint and self.training and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        out: Tensor = self.norm(x)
        return out

    def attentions(self) -> list[Attention]:
        """The attention of every block."""
        return [block.attention for block in self.blocks if isinstance(block, Block)]

    def caches(self, n: int, length: int, group: int = 1) -> list[list[KeyValueCache]]:
        """Empty caches of every block for n sequences of `length` positions that come in groups of `group`."""
        return [attention.caches(n, length, group) for attention in self.attentions()]

    def num_cached(self, length: int, group: int = 1) -> int:
        """Numbers that all caches hold for one sequence."""
        return sum(attention.num_cached(length, group) for attention in self.attentions())

    def step(self, x: Tensor, position: int, caches: list[list[KeyValueCache]]) -> Tensor:
        """One position, (n, width) to (n, width)."""
        for block, own in zip(self.blocks, caches, strict=True):
            assert isinstance(block, Block)
            x = block.step(x, position, own)
        out: Tensor = self.norm(x)
        return out
