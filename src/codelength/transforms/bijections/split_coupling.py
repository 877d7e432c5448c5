"""Coupling by halves of the channels: the first half conditions and stays, the second is mapped number by number.

Where the masked couplings of RealNVP run their network over all channels, half of them zero, this one gives it the
conditioning half alone and asks for parameters of the other half alone.

References: NICE, arXiv:1410.8516, section 3.2; Glow, arXiv:1807.03039, table 1; Flow++, arXiv:1902.00275, section 3.2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from codelength.transforms.bijections.elementwise import Elementwise
from codelength.transforms.transform import Transform


class SplitCoupling(Transform):
    """(a, b) to (a, f(b; network(a))).

    Args:
        kind: f.
        network: Takes a, (B, C − C // 2, ...), returns (B, P · C // 2, ...), the first parameter of all channels first;
            may be of less precision than a, what it returns is cast. An `initialize(a)` of its own is called by ours.
        swap: The second half conditions, the first is changed.
    """

    def __init__(self, kind: Elementwise, network: nn.Module, *, swap: bool = False) -> None:
        super().__init__()
        self.kind, self.network, self.swap = kind, network, swap

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The conditioning part and the one that is changed."""
        channels = x.shape[1]
        small = channels // 2
        if self.swap:
            changed, condition = x.split([small, channels - small], dim=1)
        else:
            condition, changed = x.split([channels - small, small], dim=1)
        return condition, changed

    def _join(self, condition: Tensor, changed: Tensor) -> Tensor:
        return torch.cat([changed, condition] if self.swap else [condition, changed], dim=1)

    def _parameters_of(self, condition: Tensor, changed: Tensor, **context: Any) -> Tensor:
        """θ, (B, P, C // 2, ...), of the precision of the data: a network may run in bfloat16, a log-det never."""
        out: Tensor = self.network(condition, **context)
        return out.to(changed.dtype).unflatten(1, (self.kind.num_parameters, changed.shape[1]))

    def forward(self, x: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        condition, changed = self._split(x)
        z, log_derivative = self.kind.forward(changed, self._parameters_of(condition, changed, **context))
        return self._join(condition, z), log_derivative.flatten(1).sum(1)

    def inverse(self, z: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        condition, changed = self._split(z)
        x, log_derivative = self.kind.inverse(changed, self._parameters_of(condition, changed, **context))
        return self._join(condition, x), log_derivative.flatten(1).sum(1)

    @torch.no_grad()
    def initialize(self, x: Tensor, **context: Any) -> Tensor:
        initialize = getattr(self.network, "initialize", None)
        if initialize is not None:
            initialize(self._split(x)[0], **context)
        z: Tensor = self(x, **context)[0]
        return z
