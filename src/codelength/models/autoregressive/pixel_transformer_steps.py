"""Transformers over an image's positions a site at a time, with the keys and values of what came before.

A step computes the positions of one site; each is one column of the network and one look at the caches. Where dims are
positions, the channels of a site are computed when they are asked for, because each needs the value of the one before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from codelength.models.autoregressive.channel_order import SiteSteps
from codelength.models.base import Positions

if TYPE_CHECKING:
    from codelength.models.autoregressive.pixel_transformer import PixelTransformer


class TransformerState(SiteSteps):
    """The state of one pass over n images; changed in place.

    Args:
        model: The model; its parameters must not change during the pass.
        n: Number of images.
        label: Classes, (n,), where the model is conditioned.
    """

    def __init__(self, model: PixelTransformer, n: int, label: Tensor | None) -> None:
        super().__init__(model.head, model.schedule, model.span)
        self.model, self.n, self.group = model, n, model.order.group
        self.caches = model.stack.caches(n, model.order.length, self.group)
        self.surroundings = model.surroundings(label)
        self.site = -1
        # Levels of this site's channels so far; of the site before it, (n, C).
        self.levels = self.before = torch.zeros(n, 0, dtype=torch.long, device=model.device)

    def begin(self, positions: Positions) -> None:
        self.site += 1
        self.before = self.levels

    def tell(self, levels: Tensor) -> None:
        self.levels = levels[:, :, 0].to(self.model.device)

    def compute(self, group: int) -> Tensor:
        """Outputs of position `group` of this site, (n, P, 1)."""
        model, position = self.model, self.site * self.group + group
        if position == 0:
            content = model.first.expand(self.n, -1)
        else:
            # The values of the position before: a channel of this site, the last channel or all of the site before.
            own, token = self.levels[:, group - 1 : group], self.before[:, -model.order.token :]
            content = model.contents((own if group else token).unsqueeze(1), position - 1).squeeze(1)
        features = model.stack.step(content + self.surroundings[:, position], position, self.caches)
        out: Tensor = model.output(features)
        return out.unsqueeze(-1)
