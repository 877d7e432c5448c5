"""The conditioner of Flow++: gated convolutions and gated self-attention over all sites, each normalized after.

    h = x + conv(u) of concat_elu, gated by a 1x1 convolution;    x = LayerNorm(h);
    h = x + attention(x + position), gated;                       x = LayerNorm(h).

Reference: Flow++, arXiv:1902.00275, section 3.3 and figure 2; dropout and concat_elu as in its released code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from codelength.nn.activations import byte_dropout, concat_elu, gated_add
from codelength.nn.scaled_conv import ScaledConv

Apply = Callable[[ScaledConv, Tensor], Tensor]


def _run(conv: ScaledConv, x: Tensor) -> Tensor:
    out: Tensor = conv(x)
    return out


def _initialize(conv: ScaledConv, x: Tensor) -> Tensor:
    return conv.initialize(x)


class ChannelNorm(nn.Module):
    """Layer normalization over the channels of every site, (B, F, H, W): nothing passes from site to site."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(filters)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out.to(x.dtype)


class GatedConv(nn.Module):
    """x + a σ(b) with (a, b) of a 3x3 and a second convolution.

    Args:
        filters: Channels F.
        features: Channels of features of the same sites that are added, or 0.
        dropout: Probability of dropout between the convolutions.
        kernel: Kernel of the second convolution: 1 in the couplings of Flow++, 3 in its features.
    """

    def __init__(self, filters: int, features: int, dropout: float, kernel: int = 1) -> None:
        super().__init__()
        self.first = ScaledConv(2 * filters, filters, 3)
        self.second = ScaledConv(2 * filters, 2 * filters, kernel, gain=0.1)
        self.features = ScaledConv(2 * features, filters, 1) if features else None
        self.dropout = dropout

    def forward(self, x: Tensor, features: Tensor | None = None, apply: Apply = _run) -> Tensor:
        h = apply(self.first, concat_elu(x))
        if self.features is not None and features is not None:
            h = h + apply(self.features, concat_elu(features))
        h = byte_dropout(concat_elu(h), self.dropout, self.training)
        return gated_add(x, apply(self.second, h))


class GatedAttention(nn.Module):
    """x + a σ(b) with (a, b) of self-attention over all sites, after a learned vector of each site is added.

    Args:
        filters: Channels F, a multiple of heads.
        heads: Attention heads.
        dropout: Probability of dropout after attention.
    """

    def __init__(self, filters: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.project = ScaledConv(filters, 3 * filters, 1)
        self.mix = ScaledConv(filters, 2 * filters, 1, gain=0.1)

    def forward(self, x: Tensor, position: Tensor, apply: Apply = _run) -> Tensor:
        projected = apply(self.project, x + position.to(x.dtype))  # (B, 3F, H, W)
        sites = projected.flatten(2).transpose(1, 2).unflatten(2, (3, self.heads, -1))  # (B, T, 3, heads, d)
        query, key, value = sites.permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, T, d)
        # Not torch's fused attention: on a CPU its backward pass is two to six times slower in bfloat16 at these sizes.
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3)  # (B, heads, T, T)
        out = torch.softmax(scores, dim=-1).to(value.dtype) @ value
        out = out.transpose(1, 2).flatten(2).transpose(1, 2).unflatten(2, x.shape[2:])  # (B, F, H, W)
        out = byte_dropout(out.contiguous(memory_format=torch.channels_last), self.dropout, self.training)
        return gated_add(x, apply(self.mix, out))


class ConvAttention(nn.Module):
    """From the channels of an image to parameters at each of its sites.

    Args:
        shape: Shape of the input, (channels, H, W).
        outputs: Channels of the output.
        filters: Hidden channels F.
        blocks: Blocks of a gated convolution and gated attention.
        heads: Attention heads; 0 leaves attention out.
        features: Channels of features of the same sites, passed as `features=`, or 0.
        dropout: Probability of dropout in every block.
        fold: Work on fold x fold blocks of sites as channels, where they divide the sizes; the paper's is 1.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        filters: int,
        blocks: int,
        *,
        heads: int = 4,
        features: int = 0,
        dropout: float = 0.0,
        fold: int = 1,
    ) -> None:
        super().__init__()
        channels, height, width = shape
        if heads and filters % heads:
            raise ValueError(f"filters={filters} and heads={heads}; wanted a multiple of the heads")
        self.fold = fold if height % fold == 0 and width % fold == 0 else 1
        area = self.fold**2
        self.enter = ScaledConv(channels * area, filters, 3)
        self.convs = nn.ModuleList(GatedConv(filters, features * area, dropout) for _ in range(blocks))
        self.norms = nn.ModuleList(ChannelNorm(filters) for _ in range(blocks))
        self.attentions = nn.ModuleList(GatedAttention(filters, heads, dropout) for _ in range(blocks if heads else 0))
        self.attention_norms = nn.ModuleList(ChannelNorm(filters) for _ in range(len(self.attentions)))
        sites = (height // self.fold, width // self.fold)
        self.position = nn.Parameter(0.01 * torch.randn(filters, *sites)) if heads else None
        self.leave = ScaledConv(filters, outputs * area, 3, gain=0.1)

    def _apply_all(self, x: Tensor, features: Tensor | None, apply: Apply) -> Tensor:
        x = pixel_unshuffle(x, self.fold).contiguous(memory_format=torch.channels_last)
        if features is not None:
            features = pixel_unshuffle(features, self.fold).contiguous(memory_format=torch.channels_last)
        h = apply(self.enter, x)
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            h = norm(conv(h, features, apply))
            if self.position is not None:
                h = self.attention_norms[i](self.attentions[i](h, self.position, apply))
        return pixel_shuffle(apply(self.leave, h), self.fold)

    def forward(self, x: Tensor, *, features: Tensor | None = None, **context: Any) -> Tensor:
        """(B, channels, H, W), and features of the same sites, to (B, outputs, H, W)."""
        return self._apply_all(x, features, _run)

    def initialize(self, x: Tensor, *, features: Tensor | None = None, **context: Any) -> None:
        """Set the scales of all convolutions from a batch, in the order in which data pass them."""
        self._apply_all(x, features, _initialize)
