"""MADE: a masked multilayer perceptron that gives all conditionals in one pass.

P(x) = Π_t P(x_s(t) | x_s(0), ..., x_s(t−1)) over the sites s of an image in raster order or in a random one. All
channels of a site are given the same parameters: what they say about each other is the pixel likelihood's part (the
coupling of "logistic_mixture"; "categorical" channels are independent given the sites before).

Stepwise, a hidden unit is computed once, when the last site it sees becomes known: all steps together cost one pass.

Reference: MADE, arXiv:1502.03509. Departures: degrees are spread evenly instead of drawn; residual layers and other
pixel likelihoods than Bernoulli are options; no direct connections from input to output.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from codelength.errors import UsageError, unknown_name
from codelength.models.autoregressive.base import AutoregressiveModel
from codelength.models.base import Positions
from codelength.nn.conditions import LABEL, conditioning_of, label_classes
from codelength.nn.masked_mlp import MaskedMLP, SiteMasks
from codelength.pixels import PixelDistribution, PixelLikelihood, pixel_likelihood
from codelength.randomness import make_generator
from codelength.space import Space

ORDERINGS = ("raster", "random")


@dataclass
class MADEState:
    """What a pass over the sites has computed so far.

    Args:
        place: Number of steps taken.
        inputs: Embedded sites, zero where not yet known, (n, E, S).
        hidden: Hidden layers before activation, each (n, H); units not yet computed are not read.
        active: The same after activation.
        class_hidden: What the class adds to each hidden layer, (n, H) each; None where there is none.
        class_output: What it adds to the outputs of a site, (n, P).
    """

    place: int
    inputs: Tensor
    hidden: list[Tensor]
    active: list[Tensor]
    class_hidden: list[Tensor] | None = None
    class_output: Tensor | None = None


class OrderedMADE:
    """Weights read in one coding order: parallel pass and steps.

    Args:
        space: Images.
        network: Weights, perhaps shared with other orders.
        masks: Masks of this order.
        likelihood: Pixel likelihood.
        one_hot: Whether sites are embedded with the indicators of their levels besides their scaled value.
    """

    def __init__(
        self, space: Space, network: MaskedMLP, masks: SiteMasks, likelihood: PixelLikelihood, one_hot: bool
    ) -> None:
        self.space, self.network, self.masks, self.likelihood, self.one_hot = space, network, masks, likelihood, one_hot

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.network.input.weight.device

    @property
    def schedule(self) -> list[Positions]:
        """One site a step, in coding order."""
        width = self.space.sizes[2]
        return [Positions(torch.tensor([s // width]), torch.tensor([s % width])) for s in self.masks.sites]

    def conditionals(self, levels: Tensor, label: Tensor | None = None) -> PixelDistribution:
        """Distributions of all sites; levels (B, C, H, W) count from 0."""
        return self.likelihood(self.outputs(levels, label))

    def outputs(self, levels: Tensor, label: Tensor | None = None) -> Tensor:
        """The network's outputs at every site, (B, P, H, W)."""
        x = embed_levels(levels, self.space.levels, self.one_hot, self.network.input.weight.dtype)
        out: Tensor = self.network(x.flatten(1), self.masks, label)
        return out.unflatten(1, (-1, *self.space.sizes[1:]))

    @torch.no_grad()
    def init_state(self, n: int, **conditions: Tensor) -> MADEState:
        """State of n data before the first step."""
        weight = self.network.input.weight
        inputs = weight.new_zeros(n, weight.shape[1] // self.network.sites, self.network.sites)
        hidden, active = ([weight.new_zeros(n, ends[-1]) for ends in self.masks.ends] for _ in range(2))
        class_hidden, class_output = self.network.class_biases(conditions.get(LABEL))
        return MADEState(0, inputs, hidden, active, class_hidden, class_output)

    @torch.no_grad()
    def step(self, state: MADEState, values: Tensor | None) -> tuple[PixelDistribution, MADEState]:
        """Distribution of the next site; `values` are the levels of the one before, (n, C, 1)."""
        network, masks = self.network, self.masks
        if values is not None:
            embedded = embed_levels(values.to(self.device), self.space.levels, self.one_hot, state.inputs.dtype)
            state.inputs[:, :, masks.sites[state.place - 1]] = embedded[:, :, 0]
            self._compute_hidden(state)
        site, known = masks.sites[state.place], masks.ends[-1][state.place]
        weight = network.output.weight.unflatten(0, (-1, network.sites))[:, site, :known]
        bias = network.output.bias.unflatten(0, (-1, network.sites))[:, site]
        parameters = F.linear(state.active[-1][:, :known], weight, bias)
        if state.class_output is not None:
            parameters = parameters + state.class_output
        state.place += 1
        return self.likelihood(parameters.unsqueeze(-1)), state

    def _compute_hidden(self, state: MADEState) -> None:
        """Compute the units of degree `place`: the sites they see are known now."""
        network, seen = self.network, state.inputs.flatten(1)
        for index, ends in enumerate(self.masks.ends):
            # Sites not yet known are zero in `inputs`, and later units are sliced off: the weights need no mask.
            layer = network.hidden_layer(index - 1) if index else network.input
            new = slice(ends[state.place - 1], ends[state.place])
            update = F.linear(seen, layer.weight[new, : seen.shape[1]], layer.bias[new])
            if state.class_hidden is not None:
                update += state.class_hidden[index][:, new]
            if index and network.residual:
                update += state.hidden[index - 1][:, new]
            state.hidden[index][:, new] = update
            state.active[index][:, new] = update.relu_()
            seen = state.active[index][:, : new.stop]


class MADE(AutoregressiveModel):
    """Masked autoencoder for distribution estimation, in one coding order.

    Args:
        space: Images.
        hidden: Sizes of the hidden layers.
        residual: Residual hidden layers, all of one size.
        ordering: "raster", or "random": a permutation drawn from `ordering_seed`.
        ordering_seed: Seed of a random order.
        one_hot: Also give the network the indicators of the levels (for few levels).
        dropout: Dropout of hidden units in training.
        reach: Where a unit looks at the start: initial weights fall off with the distance from the site that is the first it
            does not see, as a Gaussian whose standard deviation is so many sites; None for weights that know no place.
        pixels: "bernoulli", "categorical" or "logistic_mixture"; by default the first for two levels, else the last.
        components: Mixture components of "logistic_mixture".
        coupling: Whether the channels of "logistic_mixture" depend on each other given the component; on for colour.
        class_conditional: Condition on the class, passed as `label=`: every hidden unit and every output of a site gains a
            bias of the class.

    Raises:
        UsageError: The options do not fit each other or the space.
    """

    def __init__(
        self,
        space: Space,
        *,
        hidden: Sequence[int] = (500, 500),
        residual: bool = False,
        ordering: str = "raster",
        ordering_seed: int = 0,
        one_hot: bool = False,
        dropout: float = 0.0,
        reach: float | None = None,
        pixels: str | None = None,
        components: int | None = None,
        coupling: bool | None = None,
        class_conditional: bool = False,
    ) -> None:
        classes = label_classes(space, class_conditional)
        super().__init__(space, conditioning=conditioning_of(classes))
        self.likelihood = pixel_likelihood(space, pixels, components, coupling=coupling)
        self.network = made_network(space, self.likelihood, tuple(hidden), residual, one_hot, dropout, classes)
        self.masks = SiteMasks(site_order(space, ordering, ordering_seed), tuple(hidden))
        self.one_hot = one_hot
        if reach is not None:
            start_local(self.network, self.masks, space.sizes[2], reach)

    @property
    def ordered(self) -> OrderedMADE:
        """The weights in this model's order."""
        return OrderedMADE(self.space, self.network, self.masks, self.likelihood, self.one_hot)

    def conditionals(self, x: Tensor, **conditions: Tensor) -> PixelDistribution:
        label = self.check_conditions(conditions, len(x)).get(LABEL)
        return self.ordered.conditionals(x - self.space.offset, label)

    @property
    def schedule(self) -> list[Positions]:
        return self.ordered.schedule

    def init_state(self, n: int, **conditions: Tensor) -> MADEState:
        return self.ordered.init_state(n, **self.check_conditions(conditions, n))

    def step(self, state: MADEState, values: Tensor | None) -> tuple[PixelDistribution, MADEState]:
        return self.ordered.step(state, values)


def embed_levels(levels: Tensor, num_levels: int, one_hot: bool, dtype: torch.dtype) -> Tensor:
    """Numbers that describe each site: (B, C, *S) levels to (B, E, *S).

    The value scaled to [−1, 1] for each channel; with `one_hot` also the indicators of its levels, E = C * (1 + L).
    """
    scaled = levels.to(dtype) * (2 / (num_levels - 1)) - 1
    if not one_hot:
        return scaled
    indicators = F.one_hot(levels.long(), num_levels).movedim(-1, 2).flatten(1, 2)
    return torch.cat([scaled, indicators.to(dtype)], dim=1)


def site_order(space: Space, ordering: str, seed: int) -> Tensor:
    """Place of each site in the coding order, (H * W,) int64."""
    if ordering not in ORDERINGS:
        raise unknown_name("ordering", ordering, ORDERINGS)
    sites = space.sizes[1] * space.sizes[2]
    if ordering == "raster":
        return torch.arange(sites, device="cpu")
    return torch.randperm(sites, generator=make_generator("made-ordering", seed), device="cpu")


def made_network(
    space: Space,
    likelihood: PixelLikelihood,
    hidden: tuple[int, ...],
    residual: bool,
    one_hot: bool,
    dropout: float,
    classes: int = 0,
) -> MaskedMLP:
    """The weights of a MADE: small in the last layer, whose bias starts at the likelihood's broad distribution."""
    if not 0 <= dropout < 1:
        raise UsageError(f"dropout={dropout}; wanted 0 <= dropout < 1")
    channels, height, width = space.sizes
    inputs = channels * (1 + space.levels) if one_hot else channels
    sizes = (height * width, inputs, hidden, likelihood.num_parameters)
    network = MaskedMLP(*sizes, residual=residual, dropout=dropout, classes=classes)
    with torch.no_grad():
        network.output.weight.mul_(0.1)
        network.output.bias.copy_(likelihood.initial().repeat_interleave(height * width))
    return network


FAR = 0.02
"""Share of the initial weights' standard deviation that is left far away."""


@torch.no_grad()
def start_local(network: MaskedMLP, masks: SiteMasks, width: int, reach: float) -> None:
    """Initial weights by distance: units know their surroundings before they have learned anything.

    A unit of degree m lies at site m of the order, the first that it does not see. Its weights get the standard deviation of a
    Gaussian window of their distance over the places that its mask leaves, scaled to the second moment of He et al. (arXiv:1502.01852).

    Args:
        network: The weights.
        masks: Masks of the coding order.
        width: Sites of a row.
        reach: Standard deviation of the window, in sites.

    Raises:
        UsageError: `reach` is not positive.
    """
    if not reach > 0:
        raise UsageError(f"reach={reach}; wanted a positive number of sites, or none")
    if network.input.weight.is_meta:  # built for its size alone
        return
    order = masks.order
    sites = _coordinates(torch.arange(len(order), device="cpu"), width)
    units = [_coordinates(order.argsort()[degrees], width) for degrees in masks.degrees]
    _fall_off(network.input.weight.unflatten(1, (-1, len(order))), masks.input, units[0], sites, reach, 2.0)
    for index, (before, after) in enumerate(itertools.pairwise(units)):
        weight = network.hidden_layer(index).weight.unsqueeze(1)
        _fall_off(weight, masks.hidden(index), after, before, reach, 0.5 if network.residual else 2.0)
    out = network.output.weight.unflatten(0, (-1, len(order))).movedim(0, 1)
    _fall_off(out, masks.output, sites, units[-1], reach, 0.01)


def _coordinates(site: Tensor, width: int) -> Tensor:
    return torch.stack([site // width, site % width], dim=1).float()


def _fall_off(weight: Tensor, mask: Tensor, rows: Tensor, columns: Tensor, reach: float, moment: float) -> None:
    """Fill a weight, (R, E, C): each row's squares sum to `moment` in the mean, the more the nearer column and row lie."""
    window = torch.exp(torch.cdist(rows, columns).square() / (-2 * reach**2)).add_(FAR) * mask
    window *= (moment / (weight.shape[1] * window.square().sum(1, keepdim=True)).clamp(min=1e-12)).sqrt()
    weight.copy_(torch.randn_like(weight) * window.unsqueeze(1))
