"""How the channels of a site follow each other: by the pixel likelihood, or by masks inside the network.

*Joint*: all channels of a site get their parameters at once, from the sites before; what the channels say about each other is the
likelihood's part (the coupling of "logistic_mixture"). One channel needs no more.

*Masked*: the features of every layer are split into one group a channel, and the masks let the group of green see red, and that of
blue red and green (arXiv:1601.06759, section 3.4). Then each channel has a likelihood of its own, given all dims before it. So
categorical colour, whose channels would otherwise be independent, gets P(r) P(g | r) P(b | r, g).

Step by step, a masked network is evaluated group by group: the group of channel c as soon as channels 0 .. c − 1 are known. All
groups together cost one evaluation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from codelength.errors import UsageError
from codelength.models.base import Positions
from codelength.nn.causal_conv import spread_groups
from codelength.pixels import ChannelDistribution, PixelDistribution, pixel_likelihood
from codelength.space import Space

MOST_CATEGORICAL_LEVELS = 4096
"""Above it the logits of one image, and the weights they come from, take more memory than all the rest."""


class SiteHead:
    """From the network's outputs to the distribution of a site's channels.

    Args:
        space: Images.
        pixels: "bernoulli", "categorical" or "logistic_mixture"; None: the first for two levels, else the last.
        components: Mixture components of "logistic_mixture".
        coupling: Whether its channels depend on each other given the component; None: where there are several.
        channel_masks: Whether channels are separated by masks; None: where there are several and the likelihood does not
            join them.

    Raises:
        UsageError: The options do not fit each other or the space.
    """

    def __init__(
        self,
        space: Space,
        pixels: str | None,
        components: int | None,
        coupling: bool | None,
        channel_masks: bool | None,
    ) -> None:
        joint = pixel_likelihood(space, pixels, components, coupling=coupling)
        channels, self.levels = space.shape[0] or 1, space.levels
        if joint.name == "categorical" and space.levels > MOST_CATEGORICAL_LEVELS:
            raise UsageError(
                f"pixels='categorical' with {space.levels} levels: {channels * space.levels} outputs a site; wanted at most "
                f"{MOST_CATEGORICAL_LEVELS} levels. Choose 'logistic_mixture', which costs the same for any number of levels"
            )
        masked = joint.name != "logistic_mixture" if channel_masks is None else channel_masks
        if masked and coupling:
            raise UsageError(
                "coupling=true with channel_masks=true: masks already let a channel see those before; choose one"
            )
        self.channels, self.groups = channels, channels if masked else 1
        single = replace(space, shape=(1, *space.shape[1:]), channels=())
        self.likelihood = pixel_likelihood(single, pixels, components) if self.groups > 1 else joint
        self.num_parameters = self.groups * self.likelihood.num_parameters
        self.parameter_groups = spread_groups(self.num_parameters, self.groups)

    def initial(self) -> Tensor:
        """The outputs a network should start from, (num_parameters,)."""
        return self.likelihood.initial().repeat(self.groups)

    def __call__(self, parameters: Tensor, span: Tensor | None = None) -> PixelDistribution:
        """Distribution of a datum given the network's outputs, (B, num_parameters, *S); `span` as for the likelihood."""
        if self.groups == 1:
            return self.likelihood(parameters, span)
        parts = parameters.chunk(self.groups, dim=1)
        return self.in_order(lambda c, previous: parts[c], parameters.shape[0], parameters.shape[2:], span)

    def in_order(
        self,
        parameters: Callable[[int, Tensor], Tensor],
        batch: int,
        sites: torch.Size,
        span: Tensor | None = None,
    ) -> PixelDistribution:
        """Distribution whose parameters are computed channel by channel.

        Args:
            parameters: Of channel c given the channels before it: (c, (B, c, *S)) to (B, num_parameters / C, *S).
            batch, sites: B and S.
            span: As for the likelihood.
        """

        def part(c: int, previous: Tensor) -> PixelDistribution:
            return self.likelihood(parameters(c, previous), span)

        return OrderedChannels(part, (batch, self.channels), sites, self.levels)


class OrderedChannels(PixelDistribution):
    """Channels with likelihoods of their own, each given those before it.

    Args:
        part: The distribution of channel c alone, event shape (1, *S), given the levels of those before, (B, c, *S).
        batch_and_channels: (B, C).
        sites: S.
        levels: Number of levels.
    """

    def __init__(
        self,
        part: Callable[[int, Tensor], PixelDistribution],
        batch_and_channels: tuple[int, int],
        sites: torch.Size,
        levels: int,
    ) -> None:
        self._part = part
        super().__init__(*batch_and_channels, sites, levels)

    def channel(self, c: int, previous: Tensor) -> ChannelDistribution:
        return self._part(c, previous[:, :c]).channel(0, previous[:, :0])

    def log_prob_per_dim(self, value: Tensor) -> Tensor:
        self._check(value)
        parts = [self._part(c, value[:, :c]).log_prob_per_dim(value[:, c : c + 1]) for c in range(self.channels)]
        return torch.cat(parts, dim=1)


class SiteSteps(ABC):
    """The state of one pass: which step it is at, and what each group of the step's sites was computed from.

    A subclass keeps the caches. Within a step it is told channels one after the other and computes group after group; told
    another value than before, it computes the groups that saw it anew.

    Args:
        head: The model's head.
        schedule: Its schedule.
        span: As for the likelihood.
    """

    def __init__(self, head: SiteHead, schedule: list[Positions], span: Tensor | None = None) -> None:
        self.head, self.schedule, self.span, self.time = head, schedule, span, -1
        self._computed: list[tuple[Tensor, Tensor]] = []

    @abstractmethod
    def begin(self, positions: Positions) -> None:
        """Go on to these sites; all dims of the ones before are known."""

    @abstractmethod
    def tell(self, levels: Tensor) -> None:
        """Write the levels of the sites' first channels, (n, c, S)."""

    @abstractmethod
    def compute(self, group: int) -> Tensor:
        """The network's outputs for a group at the sites, (n, outputs of the group, S); earlier groups are computed."""

    def next(self, values: Tensor | None) -> PixelDistribution:
        """The distribution of the next sites, given the levels of the ones before, (n, C, S)."""
        if values is not None:
            self.parameters(self.head.groups - 1, values)  # what the caller did not ask for is computed now
            self.tell(values)
        self.time += 1
        self._computed = []
        positions = self.schedule[self.time]
        self.begin(positions)
        first = self.parameters(0, torch.zeros(0, 0, 0))
        if self.head.groups == 1:
            return self.head(first, self.span)
        time = self.time

        def parameters(c: int, previous: Tensor) -> Tensor:
            if self.time != time:
                raise UsageError(
                    "the distribution of a step serves until the next step; ask it for its channels before"
                )
            return self.parameters(c, previous)

        return self.head.in_order(parameters, len(first), first.shape[2:], self.span)

    @torch.no_grad()
    def parameters(self, group: int, previous: Tensor) -> Tensor:
        """The network's outputs for a group given the levels of the channels before it, (n, >= group, S)."""
        for g in range(group + 1):
            told = previous[:, :g]
            if g < len(self._computed) and (g == 0 or torch.equal(self._computed[g][0], told)):
                continue
            del self._computed[g:]
            if g:
                self.tell(told)
            self._computed.append((told.clone(), self.compute(g)))
        return self._computed[group][1]
