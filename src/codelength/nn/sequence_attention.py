"""Causal self-attention over a sequence, in parallel or a position at a time with keys and values kept.

    y_t = W_o Σ_{s <= t} softmax_s(q_t · k_s / sqrt(d)) v_s,     (q, k, v) = (W_q, W_k, W_v) x + b

With rotary positions q_t and k_s are turned by angles proportional to t and s before their product, which then depends on
t − s alone: pair i of a head's d features turns by t · 10000^(−2i/d).

References: arXiv:1706.03762; rotary positions, arXiv:2104.09864, eq. (34).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codelength.errors import UsageError
from codelength.nn.activations import byte_dropout


class KeyValues:
    """Keys and values of the positions so far, of n sequences; changed in place.

    Args:
        n: Sequences.
        heads, size: Heads, and the width of one.
        length: Most positions.
        like: Tensor of the type and device wanted.
    """

    def __init__(self, n: int, heads: int, size: int, length: int, like: Tensor) -> None:
        self.keys, self.values = (like.new_empty(n, heads, length, size) for _ in range(2))
        self.filled = 0

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keep keys and values of the next positions, (n, heads, T, d); all of them so far."""
        stop = self.filled + k.shape[2]
        self.keys[:, :, self.filled : stop], self.values[:, :, self.filled : stop] = k, v
        self.filled = stop
        return self.keys[:, :, :stop], self.values[:, :, :stop]


class SequenceAttention(nn.Module):
    """Causal multi-head self-attention.

    Args:
        width: Width of the inputs and outputs.
        heads: Number of heads.
        rotary: Turn queries and keys by their positions.
        dropout: Of the attention's weights, in training.

    Raises:
        UsageError: `width` is no multiple of `heads`, or a head's width is odd where positions are rotary.
    """

    def __init__(self, width: int, heads: int, *, rotary: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        if heads < 1 or width % heads or (rotary and (width // heads) % 2):
            raise UsageError(
                f"attention of width={width} with heads={heads}; wanted a multiple"
                + (", and an even width of a head for rotary positions" if rotary else "")
            )
        self.heads, self.size, self.rotary, self.dropout = heads, width // heads, rotary, dropout
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, cache: KeyValues | None = None, mask: Tensor | None = None) -> Tensor:
        """(B, T, width) to (B, T, width); with a cache x are the positions after those it holds.

        `mask`, (B, 1, T, S) bool, says which of the S positions so far each of the T sees; by default those up to its own.
        """
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, self.size)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )  # (B, heads, T, d)
        first = 0 if cache is None else cache.filled
        if self.rotary:
            q, k = turn(q, first), turn(k, first)
        if cache is not None:
            k, v = cache.append(k, v)
        out: Tensor = self.out(self._attend(q, k, v, mask).transpose(1, 2).flatten(2))
        return out

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """Queries of the last positions over all keys: (B, heads, T, d), (B, heads, S, d) twice -> (B, heads, T, d).

        The fused kernel's backward pass for half precision on CPUs is several times slower than plain products, and it has
        no dropout there: those cases take plain products.
        """
        length, total = q.shape[2], k.shape[2]
        causal = mask is None
        if mask is None and 1 < length < total:
            mask = torch.ones(length, total, dtype=torch.bool, device=q.device).tril(total - length)
        plain = q.device.type == "cpu" and self.training and (q.dtype == torch.bfloat16 or self.dropout > 0)
        if not plain:
            # The fused kernel may want values of the keys' type: rotary keys are float32 under autocast.
            return F.scaled_dot_product_attention(
                q, k, v.to(k.dtype), attn_mask=mask, is_causal=causal and length == total > 1
            )
        if causal:
            bias = torch.full((length, total), -torch.inf, dtype=q.dtype, device=q.device).triu_(total - length + 1)
        else:
            assert mask is not None
            bias = torch.zeros(mask.shape, dtype=q.dtype, device=q.device).masked_fill_(~mask, -torch.inf)
        scores = (q * self.size**-0.5) @ k.transpose(-1, -2) + bias  # (B, heads, T, S)
        return byte_dropout(scores.softmax(-1), self.dropout, self.training) @ v


def turn(x: Tensor, first: int) -> Tensor:
    """Rotary positions `first`, `first` + 1, ...: (B, heads, T, d) to the same, features i and i + d/2 turned as a pair.

    >>> x = torch.ones(1, 1, 2, 2)
    >>> bool(torch.equal(turn(x, 0)[0, 0, 1], turn(x[:, :, 1:], 1)[0, 0, 0]))
    True
    """
    half = x.shape[-1] // 2
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    rates = 10000.0 ** (-torch.arange(half, dtype=wide, device=x.device) / half)
    angles = torch.arange(first, first + x.shape[2], dtype=wide, device=x.device).unsqueeze(1) * rates  # (T, d/2)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)
