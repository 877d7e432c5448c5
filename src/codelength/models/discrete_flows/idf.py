"""Integer discrete flow (Hoogeboom et al., arXiv:1905.07376): a bijection of integers, its latents under logistic mixtures.

    x -> [squeeze -> couplings -> latents leave] x scales,      z_b = x_b + round(t(x_a))  (mod L),      log P(x) = Σ_k log P(z_k | z_{>k})

Rounding has no derivative; the gradient passes straight through. No dequantization and no Jacobian: the mass is exact, and coding the latents codes the data.

Departures: translations are added modulo the number of levels (`wrap`), so that the flow permutes the finite space and the masses of data sum to one; without it, as in the
paper, latents range over more integers than data, and some of the mass lies on integers that are no data. Latents are given by mixtures and
channel by channel; `factoring="chain"` lets three of four pixels leave one after the other, each given those that stay, where the paper lets half of the channels leave at once.

The improvements of IDF++ (van den Berg et al., arXiv:2006.12459) are options: `rezero`, `activation="swish"`, `group_norm`, `pattern="restore"`.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from codelength.errors import UsageError
from codelength.models.discrete_flows.dense import Translation
from codelength.models.discrete_flows.integer_flow import IntegerFlow
from codelength.models.discrete_flows.priors import Grid, Prior
from codelength.models.discrete_flows.steps import Couple, Factor, Factoring, Pattern, plan
from codelength.models.discrete_flows.straight_through import straight_through_modulo, straight_through_round
from codelength.pixels.distribution import ChannelDistribution
from codelength.space import Space


class IDF(IntegerFlow):
    """Integer discrete flow over images; arguments as in `plan`, `Translation` and `Prior`.

    Args:
        space: Images whose sides halve `scales` times.
        scales: Number of squeezes.
        couplings: Couplings a scale.
        pattern: Which channels a coupling translates: "lifting", "random" (the paper) or "restore" (IDF++).
        factoring: What leaves after a scale: "chain" or "half" (the paper).
        growth, layers: Of the couplings' networks.
        prior_growth, prior_layers: Of the priors' networks; those of the couplings without them.
        components: Logistics a mixture.
        wrap: Add translations modulo the number of levels.
        background: For images whose background is level 0: networks read levels from 0 and translations have no biases, so that empty parts of an image
            do not move.
        rezero, activation, group_norm: Improvements of IDF++.
        translation_scale: Levels that an output of 1 of a translation's network stands for: small ones keep the first steps of training from moving
            latents at random.
        seed: Of random permutations.

    Raises:
        UsageError: The data are no images, or an option does not fit them.
    """

    def __init__(
        self,
        space: Space,
        *,
        scales: int = 2,
        couplings: int = 2,
        pattern: Pattern = "lifting",
        factoring: Factoring = "chain",
        growth: int = 48,
        layers: int = 2,
        prior_growth: int | None = None,
        prior_layers: int | None = None,
        components: int = 5,
        wrap: bool = True,
        background: bool = False,
        rezero: bool = False,
        activation: str = "relu",
        group_norm: bool = False,
        translation_scale: float = 1.0,
        seed: int = 0,
    ) -> None:
        if space.kind != "image":
            raise UsageError(f"idf models images but the data are of kind {space.kind!r}; choose discrete_flow")
        shape = cast(tuple[int, int, int], space.sizes)
        steps = plan(shape, scales=scales, couplings=couplings, pattern=pattern, factoring=factoring, seed=seed)
        couples = [step for step in steps if isinstance(step, Couple)]
        # Each coupling moves a latent by at most L - 1.
        margin = 0 if wrap else len(couples) * (space.levels - 1)
        grid = Grid(space.levels, margin, background=background)
        super().__init__(space, steps, size=grid.size, margin=margin, wrap=wrap)
        self.grid = grid
        self.translations = nn.ModuleList(
            Translation(
                len(step.free), len(step.moved), growth, layers,
                scale=translation_scale, bias=not background, rezero=rezero, activation=activation, group_norm=group_norm,
            )
            for step in couples
        )  # fmt: skip
        self.priors = nn.ModuleList(
            Prior(
                step.kept, step.channels, step.size, self.grid,
                growth=prior_growth or growth, layers=prior_layers or layers, components=components,
                activation=activation, group_norm=group_norm,
            )
            for step in steps
            if isinstance(step, Factor)
        )  # fmt: skip

    def prior(self, index: int) -> Prior:
        """The prior of the latents that leave as number `index`."""
        return cast(Prior, self.priors[index])

    def translation(self, index: int, free: Tensor) -> Tensor:
        real = self.translations[index](self.grid.network(free.to(self.dtype)))
        real = real.double() if self.dtype == torch.float64 else real.float()
        if not self.wrap:
            real = real.clamp(1 - self.space.levels, self.space.levels - 1)
        return straight_through_round(real)

    def modulo(self, z: Tensor) -> Tensor:
        if not self.wrap:
            return z
        return straight_through_modulo(z, self.size) if z.is_floating_point() else z.remainder(self.size)

    def features(self, index: int, kept: Tensor | None, n: int) -> Tensor:
        return self.prior(index).features(None if kept is None else kept.to(self.dtype), n)

    def channel(self, index: int, c: int, features: Tensor, before: Tensor, kept: Tensor | None) -> ChannelDistribution:
        kept = None if kept is None else kept.to(self.dtype)
        return self.prior(index).channel(c, features, before.to(self.dtype), kept)

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log P(x), nats, (B,).

        Raises:
            SpaceMismatchError: x is not of the model's space.
        """
        levels = (self.space.validate(x) - self.space.offset).to(self.dtype)
        total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for latents in self.leaving(levels):
            prior = self.prior(latents.factor.index)
            total = total + prior.log_prob(latents.z, latents.kept).flatten(1).sum(1, dtype=torch.float64)
        return total
