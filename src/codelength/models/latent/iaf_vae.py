"""IAF-VAE: a bidirectional residual network with layers of latents, whose posteriors are inverse autoregressive flows.

    p(x, z) = P(x | z) Π_l p(z_l | z_1 .. z_{l−1}),    q(z | x) = Π_l q(z_l | x, z_1 .. z_{l−1})

Layers go from the top, z1, to the bottom. Each layer's posterior starts as a Gaussian whose parameters add what comes up
from the data and what comes down from the latents above, and is bent by steps of inverse autoregressive flow
(`inverse_autoregressive`). `iaf=0` gives a ladder of Gaussians.

Free bits keep layers from switching off before they are of use: in training each channel of each layer may cost λ nats
for nothing (eq. 15), the mean over the batch counting:

    minimize −log P(x | z) + Σ_channels max(λ, mean KL)

Reference: Kingma et al., arXiv:1606.04934, sections 4 and 5. Departures: no weight normalization; log std bounded to ±5; σ
gates as in eq. (14) also for convolutions; resolutions double by pixel shuffle; several draws share the upward pass.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import elu

from codelength import randomness
from codelength.models.base import LogWeights
from codelength.models.latent.base import Choose, Gaussian, Inference, LatentModel, latent_terms
from codelength.models.latent.bidirectional import BidirectionalLayer, Share
from codelength.pixels import PixelDistribution, pixel_likelihood
from codelength.randomness import Noise
from codelength.space import Space

Pick = Callable[[str, BidirectionalLayer, Gaussian, Share], Tensor]


class IAFVAE(LatentModel):
    """Layers of maps of latents under a residual network.

    Args:
        space: Images, of sizes divisible by 2^resolutions.
        latents: Channels of z of each layer.
        filters: Channels of the features.
        resolutions: Resolutions of the latents: 1/2, 1/4, ... of the data's.
        blocks: Layers of each resolution.
        iaf: Steps of inverse autoregressive flow of each posterior; 0 for Gaussians.
        free_bits: λ, nats a channel and layer, in training only.
        pixels, components: The pixel likelihood, as for `VAE`.

    Raises:
        ValueError: The space or an option does not fit.
    """

    def __init__(
        self,
        space: Space,
        *,
        latents: int = 8,
        filters: int = 32,
        resolutions: int = 2,
        blocks: int = 2,
        iaf: int = 1,
        free_bits: float = 0.0,
        pixels: str | None = None,
        components: int | None = None,
    ) -> None:
        super().__init__(space)
        self.likelihood = pixel_likelihood(space, pixels, components)
        channels, height, width = space.sizes
        factor = 2**resolutions
        if resolutions < 1 or blocks < 1 or height % factor or width % factor:
            raise ValueError(
                f"IAFVAE: {height} x {width} sites, resolutions={resolutions}, blocks={blocks}; wanted 1 or more of both, "
                f"and sizes that are multiples of {factor}"
            )
        if iaf < 0 or free_bits < 0:
            raise ValueError(f"IAFVAE: iaf={iaf}, free_bits={free_bits}; wanted 0 or more")
        self.free_bits, self.iaf = free_bits, iaf
        self.stem = nn.Conv2d(channels, filters, 5, stride=2, padding=2)
        # From the data upwards; the first layer of every resolution but the first halves it.
        self.blocks = nn.ModuleList(
            BidirectionalLayer(
                filters,
                latents,
                halves=level > 0 and i == 0,
                top=(level, i) == (resolutions - 1, blocks - 1),
                iaf=iaf,
            )
            for level in range(resolutions)
            for i in range(blocks)
        )
        self.top = nn.Parameter(torch.zeros(filters))
        self.head = nn.Conv2d(filters, 4 * self.likelihood.num_parameters, 3, padding=1)
        with torch.no_grad():
            assert self.head.bias is not None
            self.head.weight.mul_(0.1)
            self.head.bias.copy_(self.likelihood.initial().repeat_interleave(4))
        levels = [level for level in range(resolutions) for _ in range(blocks)]
        self.layers = {
            f"z{i + 1}": (latents, height // 2 ** (level + 1), width // 2 ** (level + 1))
            for i, level in enumerate(reversed(levels))
        }

    def _downwards(self) -> list[tuple[str, BidirectionalLayer]]:
        named = zip(self.layers, reversed(self.blocks), strict=True)
        return [(name, block) for name, block in named if isinstance(block, BidirectionalLayer)]

    def _descend(self, n: int, pick: Pick) -> PixelDistribution:
        """The pass from the top to P(x | z) of n data, whose latents are picked layer by layer."""
        top_shape = next(iter(self.layers.values()))
        h = self.top.view(1, -1, 1, 1).expand(n, -1, *top_shape[1:])
        for name, block in self._downwards():
            prior, above, features = block.prior(h, self.dtype)
            h = block.down(h, pick(name, block, prior, above), features)
        return self.likelihood(nn.functional.pixel_shuffle(self.head(elu(h)), 2))

    def generate(self, n: int, choose: Choose) -> PixelDistribution:
        return self._descend(n, lambda name, block, prior, above: choose(name, prior))

    @property
    def posterior_is_gaussian(self) -> bool:
        return not self.iaf

    def choose_posterior(self, x: Tensor, choose: Choose) -> None:
        if self.iaf:
            raise NotImplementedError(
                "posteriors bent by inverse autoregressive flow are no Gaussians; build with iaf=0"
            )
        shares = self._shares(self.space.validate(x) - self.space.offset)
        self._descend(len(x), lambda name, block, prior, above: choose(name, block.base(shares[name], above)))

    def infer(self, x: Tensor, k: int, generator: Noise) -> Inference:
        x = self.space.validate(x)
        levels = x - self.space.offset
        return self._infer(levels, k, generator)[0]

    def _shares(self, levels: Tensor) -> dict[str, Share]:
        """The data's share of each posterior, by layer: the upward pass."""
        h = self.stem(levels.to(self.dtype) * (2 / (self.space.levels - 1)) - 1)
        shares = {}
        for name, block in reversed(self._downwards()):
            h, shares[name] = block.up(h, self.dtype)
        return shares

    def _infer(self, levels: Tensor, k: int, generator: Noise) -> tuple[Inference, dict[str, Tensor]]:
        """The inference, and the sampled KL of each layer's channels, (k, B, latents)."""
        shares, batch = self._shares(levels), len(levels)
        latents: dict[str, Tensor] = {}
        terms: dict[str, Tensor] = {}
        kls: dict[str, Tensor] = {}

        def pick(name: str, block: BidirectionalLayer, prior: Gaussian, above: Share) -> Tensor:
            shape = (k, batch, *self.layers[name])
            noise = randomness.normal(shape, generator, device=self.device, dtype=self.dtype).flatten(0, 1)
            z, log_q = block.posterior(shares[name].repeated(k), above, noise)
            log_prior, log_q = prior.log_prob(z).unflatten(0, (k, batch)), log_q.unflatten(0, (k, batch))
            latents[name] = z.unflatten(0, (k, batch))
            kls[name] = (log_q - log_prior).flatten(3).sum(3)
            terms.update(latent_terms(name, self.layers, log_prior, log_q))
            return z

        distribution = self._descend(k * batch, pick)
        log_likelihood = distribution.log_prob_of_draws(levels, k)
        return Inference(latents, LogWeights({"log_likelihood": log_likelihood, **terms})), kls

    def training_objective(self, x: Tensor, generator: Noise) -> Tensor:
        """−log P(x | z) + Σ max(λ, KL of a channel), nats, (B,), at one draw; −ELBO where no channel is below λ."""
        inference, kls = self._infer(self.space.validate(x) - self.space.offset, 1, generator)
        terms = inference.weights.terms
        if not self.free_bits:
            return -inference.weights.total[0]
        cost = -terms["log_likelihood"][0]
        for kl in kls.values():
            per_channel = kl[0]  # (B, latents)
            free = per_channel.mean(0) < self.free_bits
            cost = cost + torch.where(free, torch.full_like(per_channel, self.free_bits), per_channel).sum(1)
        return cost
