"""What the convolutional and recurrent image models share: inputs, head, conditions, and the two ways to be evaluated.

A model adds its network (`outputs`) and the caches that compute the same site by site (`start`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from codelength.errors import UsageError
from codelength.models.autoregressive.base import AutoregressiveModel
from codelength.models.autoregressive.channel_order import SiteHead, SiteSteps
from codelength.nn.causal_conv import spread_groups
from codelength.nn.conditions import LABEL, conditioning_of, label_classes
from codelength.nn.level_scale import LevelScale
from codelength.pixels import PixelDistribution
from codelength.space import Space


class SiteModel(AutoregressiveModel, ABC):
    """A network that gives every site the parameters of its distribution.

    Args:
        space: Images; sizes may be open for `log_prob`.
        pixels: "bernoulli", "categorical" or "logistic_mixture"; None: the first for two levels, else the last.
        components: Mixture components of "logistic_mixture".
        coupling: Whether the channels of "logistic_mixture" depend on each other given the component; None: for colour.
        channel_masks: Separate the channels by masks; None: where there are several and the likelihood does not join
            them (all but "logistic_mixture").
        class_conditional: Condition on the class, passed as `label=`.

    Raises:
        UsageError: The options do not fit each other or the space.
    """

    def __init__(
        self,
        space: Space,
        *,
        pixels: str | None,
        components: int | None,
        coupling: bool | None,
        channel_masks: bool | None,
        class_conditional: bool,
    ) -> None:
        classes = label_classes(space, class_conditional)
        super().__init__(space, conditioning=conditioning_of(classes))
        self.classes = classes
        self.head = SiteHead(space, pixels, components, coupling, channel_masks)
        self.level_scale = LevelScale(space.levels)
        if self.level_scale.adapts:
            self.scaled: Tensor
            self.register_buffer("scaled", torch.tensor(False))

    @abstractmethod
    def outputs(self, levels: Tensor, label: Tensor | None = None) -> Tensor:
        """The network's outputs at every site, (B, C, H, W) to (B, P, H, W)."""

    @abstractmethod
    def start(self, n: int, label: Tensor | None) -> SiteSteps:
        """The caches before the first step."""

    @property
    def input_groups(self) -> Tensor:
        """The channel group of each input of the network, (C + 1,); the ones go with the last channel."""
        channels = spread_groups(self.space.shape[0] or 1, self.head.groups)
        return torch.cat([channels, channels[-1:]])

    def inputs(self, levels: Tensor) -> Tensor:
        """Scaled levels and a channel of ones, which tells the image from the zeros around it.

        (B, C, H, W) to (B, C + 1, H, W), channels-last.
        """
        scaled = self.scale(levels)
        return torch.cat([scaled, torch.ones_like(scaled[:, :1])], dim=1).contiguous(memory_format=torch.channels_last)

    def scale(self, levels: Tensor) -> Tensor:
        """Levels on [−1, 1] (`LevelScale`), in the type of the parameters."""
        scaled: Tensor = self.level_scale(levels, self.dtype)
        return scaled

    @property
    def span(self) -> Tensor | None:
        """The part of the range that outputs speak of, where the likelihood can be told."""
        return self.level_scale.span if self.head.likelihood.spans else None

    @torch.no_grad()
    def initialize(self, x: Tensor, generator: torch.Generator, **conditions: Tensor) -> None:
        """Above 256 levels, take the scale of inputs and mixtures from a batch, once."""
        if self.level_scale.adapts and not self.scaled:
            self.level_scale.fit(x - self.space.offset)
            self.scaled.fill_(True)

    def conditionals(self, x: Tensor, **conditions: Tensor) -> PixelDistribution:
        """Distribution of every dim given those before it, in one parallel pass; x is (B, C, H, W).

        Where masks separate the channels, those before a channel at its own site are x's, whatever `channel` is told.
        """
        label = self.check_conditions(conditions, len(x)).get(LABEL)
        return self.head(self.outputs(x - self.space.offset, label), self.span)

    @torch.no_grad()
    def init_state(self, n: int, **conditions: Tensor) -> SiteSteps:
        """Nothing coded yet."""
        return self.start(n, self.check_conditions(conditions, n).get(LABEL))

    @torch.no_grad()
    def step(self, state: SiteSteps, values: Tensor | None) -> tuple[PixelDistribution, SiteSteps]:
        """Distribution of the next positions, given the levels at those before, (n, C, S)."""
        return state.next(values), state


def check_network(groups: int, dropout: float, *, kernels: tuple[int, int], **counts: int) -> None:
    """Refuse sizes that make no network.

    Args:
        groups: Channel groups; each needs a feature.
        dropout: Probability of dropout.
        kernels: Width of the kernels and of the first one.
        counts: Numbers of features and layers, by name.

    Raises:
        UsageError: One is out of range.
    """
    for name, count in counts.items():
        least = 1 if "layers" in name else groups
        if count < least:
            raise UsageError(f"{name}={count}; wanted at least {least}")
    kernel, first = kernels
    if kernel < 1 or first < 3 or not (kernel % 2 and first % 2):
        raise UsageError(f"kernel={kernel}, first_kernel={first}; wanted odd widths, the first at least 3")
    if not 0 <= dropout < 1:
        raise UsageError(f"dropout={dropout}; wanted 0 <= dropout < 1")
