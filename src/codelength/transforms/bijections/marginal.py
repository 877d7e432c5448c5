"""A trainable histogram of the levels, then a logit: the marginals become logistic, whatever they were.

With probabilities π_c,v of the levels v of a channel c, and y in the bin of level v,

    F(y) = Σ_{w < v} π_c,w + (y − v) π_c,v,        z = log F(y) − log(1 − F(y)),
    log|det dz/dy| = Σ log π_c,v − log F(y) − log(1 − F(y)).

A level that fills four fifths of the data, such as the black of digits, fills four fifths of the mass, where the logit
of y / levels leaves it 1/256 of an interval that many couplings must first stretch. Under independent logistic z this
alone is the histogram model, P(x) = Π π_c,x. Logistic rather than normal marginals: the density that a normal prior
and any couplings give then goes to zero, not to infinity, at the ends of the range, so that the weights of the
dequantization bound keep a finite variance.

References: Chen & Gopinath, "Gaussianization", NeurIPS 2000; Meng et al., arXiv:2003.01941.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from codelength.transforms.transform import Transform

SMALLEST = 1e-12
"""Bound of F and 1 − F, so that noise of exactly 0 has a finite z: a set of that mass is not mapped one to one."""


class MarginalLogit(Transform):
    """[offset, offset + levels)^D to the reals, by one histogram a channel; float64 inside.

    `initialize(x)` sets the histograms to those of the batch, plus one count a level; before it they are uniform.
    Of a level with π below 1e-6 the inverse, given float32, finds y only to about 1e-7 / π.

    Args:
        channels: C.
        levels: Number of levels; as many parameters a channel.
        offset: Smallest level.
    """

    initialized: Tensor

    def __init__(self, channels: int, levels: int, offset: int = 0) -> None:
        super().__init__()
        self.channels, self.levels, self.offset = channels, levels, offset
        self.logits = nn.Parameter(torch.zeros(channels, levels))
        self.register_buffer("initialized", torch.tensor(False))

    def _tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """log π, and the mass below and above each level, (C, levels), float64."""
        log_probs = torch.log_softmax(self.logits.double(), dim=1)
        probs = log_probs.exp()
        below = probs.cumsum(1) - probs
        above = probs.flip(1).cumsum(1).flip(1) - probs
        return log_probs, below.clamp(min=0), above.clamp(min=0)

    def _by_channel(self, x: Tensor) -> Tensor:
        """(B, C, ...) to (C, everything else)."""
        return x.transpose(0, 1).reshape(self.channels, -1)

    def _by_datum(self, x: Tensor, like: Tensor) -> Tensor:
        """(C, everything else) to the shape and type of `like`, (B, C, ...)."""
        return x.reshape(self.channels, like.shape[0], *like.shape[2:]).transpose(0, 1).to(like.dtype)

    def _level(self, y: Tensor) -> Tensor:
        return (y - self.offset).floor().long().clamp(0, self.levels - 1)

    def forward(self, x: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        log_probs, below, above = self._tables()
        y = self._by_channel(x).double()
        level = self._level(y)
        log_prob = log_probs.gather(1, level)
        fraction = y - self.offset - level
        # F and 1 − F are each summed from their own end: neither cancels.
        log_lower = (below.gather(1, level) + fraction * log_prob.exp()).clamp(min=SMALLEST).log()
        log_upper = (above.gather(1, level) + (1 - fraction) * log_prob.exp()).clamp(min=SMALLEST).log()
        log_det_jacobian = self._by_datum(log_prob - log_lower - log_upper, x).flatten(1).sum(1)
        return self._by_datum(log_lower - log_upper, x), log_det_jacobian

    def inverse(self, z: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        log_probs, below, above = self._tables()
        flat = self._by_channel(z).double()
        log_lower, log_upper = logsigmoid(flat), logsigmoid(-flat)
        lower, upper = log_lower.exp(), log_upper.exp()
        level = (torch.searchsorted(below.detach(), lower, right=True) - 1).clamp(0, self.levels - 1)
        log_prob = log_probs.gather(1, level)
        from_below = (lower - below.gather(1, level)) / log_prob.exp()
        from_above = 1 - (upper - above.gather(1, level)) / log_prob.exp()
        fraction = torch.where(lower < upper, from_below, from_above).clamp(0, 1)
        log_det_jacobian = -self._by_datum(log_prob - log_lower - log_upper, z).flatten(1).sum(1)
        return self._by_datum(level + fraction + self.offset, z), log_det_jacobian

    @torch.no_grad()
    def initialize(self, x: Tensor, **context: Any) -> Tensor:
        if not bool(self.initialized):
            level = self._level(self._by_channel(x))
            counts = torch.stack([torch.bincount(row, minlength=self.levels) for row in level])
            self.logits.copy_(torch.log(counts.double() + 1))
            self.initialized.fill_(True)
        z: Tensor = self(x, **context)[0]
        return z
