"""A chain of layers of latents, inferred from the top or from the bottom.

    p(x, z) = p(z1) p(z2 | z1) ... p(zL | z_{L−1}) P(x | zL)                   z1 is the top

    top_down     q(z | x) = q(z1 | x) q(z2 | z1, x) ... q(zL | z_{L−1}, x)     (Ladder VAE, arXiv:1602.02282, eqs. 8-10)
    bottom_up    q(z | x) = q(zL | x) q(z_{L−1} | zL) ... q(z1 | z2)           (arXiv:1401.4082; what Bit-Swap codes)

Top-down inference shares the prior's networks: the data propose a mean and a precision of each layer, the layer above its
prior, and the posterior is their product, the precision-weighted mean. So a layer starts as its prior where the data have
nothing to add. Bottom-up inference follows the chain the other way, each layer from the one below alone.

Departures: no batch normalization and no warm-up of the KL; log std bounded to ±5; in bottom-up order nothing skips a layer.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from codelength import randomness
from codelength.errors import unknown_name
from codelength.models.base import LogWeights
from codelength.models.latent.base import (
    Choose,
    Gaussian,
    Inference,
    LatentModel,
    bounded,
    latent_terms,
    standard_normal,
)
from codelength.models.latent.networks import dense
from codelength.pixels import PixelDistribution, pixel_likelihood
from codelength.randomness import Noise
from codelength.space import Space

INFERENCES = ("top_down", "bottom_up")


class HierarchicalVAE(LatentModel):
    """Dense networks between layers of latents.

    Args:
        space: Images.
        latents: Latents of each layer, top first.
        hidden: Units of the networks.
        depth: Hidden layers of each network.
        inference: "top_down" or "bottom_up".
        pixels, components: The pixel likelihood, as for `VAE`.

    Raises:
        ValueError: There are no layers.
    """

    def __init__(
        self,
        space: Space,
        *,
        latents: Sequence[int] = (16, 32),
        hidden: int = 256,
        depth: int = 2,
        inference: str = "top_down",
        pixels: str | None = None,
        components: int | None = None,
    ) -> None:
        super().__init__(space)
        self.likelihood = pixel_likelihood(space, pixels, components)
        if inference not in INFERENCES:
            raise unknown_name("inference of the hierarchical VAE", inference, INFERENCES)
        if not latents or min(latents) < 1:
            raise ValueError(f"HierarchicalVAE: latents={latents}; wanted one or more sizes of 1 or more")
        self.inference = inference
        self.layers = {f"z{i + 1}": (size,) for i, size in enumerate(latents)}
        _, height, width = space.sizes
        outputs = self.likelihood.num_parameters
        self.priors = nn.ModuleList(dense(a, 2 * b, hidden, depth) for a, b in itertools.pairwise(latents))
        self.decoder = dense(latents[-1], outputs * height * width, hidden, depth)
        self.site_shape = (outputs, height, width)
        # What each layer is inferred from, bottom first: features of the data, or with bottom_up the layer below.
        from_below = [space.num_dims, *([hidden] * (len(latents) - 1))]
        if inference == "bottom_up":
            from_below = [space.num_dims, *reversed(latents[1:])]
            sizes = zip(from_below, reversed(latents), strict=True)
            self.encoders = nn.ModuleList(dense(a, 2 * b, hidden, depth) for a, b in sizes)
        else:
            self.features = nn.ModuleList(dense(a, hidden, hidden, max(depth - 1, 0)) for a in from_below)
            self.encoders = nn.ModuleList(nn.Sequential(nn.SiLU(), nn.Linear(hidden, 2 * b)) for b in reversed(latents))
        self._start_sane()

    def _start_sane(self) -> None:
        """Proposals half as wide as the prior, P(x | z) near the likelihood's broad initial distribution."""
        with torch.no_grad():
            for encoder in self.encoders:
                outer = [module for module in encoder.modules() if isinstance(module, nn.Linear)][-1]
                outer.bias.chunk(2)[1].fill_(-1.0)
            last = self.decoder[-1]
            assert isinstance(last, nn.Linear)
            last.weight.mul_(0.1)
            initial = self.likelihood.initial()
            last.bias.copy_(initial.repeat_interleave(last.bias.numel() // initial.numel()))

    def _gaussian(self, network: nn.Module, h: Tensor) -> Gaussian:
        mean, raw = network(h).to(self.dtype).chunk(2, dim=1)
        return Gaussian(mean, bounded(raw))

    def posterior_from_below(self, index: int, below: Tensor) -> Gaussian:
        """q(z_index | the layer below, or at the bottom `scaled` data) of bottom-up inference; index 0 is the top."""
        return self._gaussian(self.encoders[len(self.layers) - 1 - index], below)

    def prior(self, index: int, n: int, above: Tensor | None) -> Gaussian:
        """p(z_index | the layer above) of n data; N(0, I) at the top, index 0."""
        if above is None:
            return standard_normal(self, n, next(iter(self.layers.values())))
        return self._gaussian(self.priors[index - 1], above)

    def decode(self, z: Tensor) -> PixelDistribution:
        """P(x | z) over levels from 0, of latents of the bottom layer, (n, latents)."""
        return self.likelihood(self.decoder(z).unflatten(1, self.site_shape))

    def generate(self, n: int, choose: Choose) -> PixelDistribution:
        z: Tensor | None = None
        for index, layer in enumerate(self.layers):
            z = choose(layer, self.prior(index, n, z))
        assert z is not None
        return self.decode(z)

    def scaled(self, levels: Tensor) -> Tensor:
        """Levels from 0 on [−1, 1], flat, (n, num_dims): what the encoders read."""
        return (levels.to(self.dtype) * (2 / (self.space.levels - 1)) - 1).flatten(1)

    def infer(self, x: Tensor, k: int, generator: Noise) -> Inference:
        levels = self.space.validate(x) - self.space.offset
        batch, n = len(x), k * len(x)

        latents: dict[str, Tensor] = {}
        log_qs: dict[str, Tensor] = {}

        def draw(layer: str, posterior: Gaussian) -> Tensor:
            shape = (k, batch, *self.layers[layer])
            noise = randomness.normal(shape, generator, device=self.device, dtype=self.dtype).flatten(0, 1)
            latents[layer] = posterior.draw(noise)
            log_qs[layer] = posterior.log_prob(latents[layer])
            return latents[layer]

        self._walk(levels, k, draw)
        terms: dict[str, Tensor] = {}
        above: Tensor | None = None
        for index, layer in enumerate(self.layers):
            log_prior = self.prior(index, n, above).log_prob(latents[layer])
            pair = (part.unflatten(0, (k, batch)) for part in (log_prior, log_qs[layer]))
            terms |= latent_terms(layer, self.layers, *pair)
            above = latents[layer]
        assert above is not None
        log_likelihood = self.decode(above).log_prob_of_draws(levels, k)
        ordered = {layer: latents[layer].unflatten(0, (k, batch)) for layer in self.layers}
        return Inference(ordered, LogWeights({"log_likelihood": log_likelihood, **terms}))

    def choose_posterior(self, x: Tensor, choose: Choose) -> None:
        self._walk(self.space.validate(x) - self.space.offset, 1, choose)

    def _walk(self, levels: Tensor, k: int, choose: Choose) -> None:
        """Choose k latents of each layer, (k B, latents), for levels (B, C, H, W), in the order of inference."""
        if self.inference == "top_down":
            self._walk_down(self.scaled(levels), k, choose)
        else:
            self._walk_up(self.scaled(levels), k, choose)

    def _walk_down(self, h: Tensor, k: int, choose: Choose) -> None:
        """Every posterior is the product of proposal and prior."""
        proposals: list[Gaussian] = []
        for features, encoder in zip(self.features, self.encoders, strict=True):
            h = features(nn.functional.silu(h) if proposals else h)
            proposals.append(self._gaussian(encoder, h))
        z: Tensor | None = None
        for index, (layer, proposal) in enumerate(zip(self.layers, reversed(proposals), strict=True)):
            repeated = Gaussian(proposal.mean.repeat(k, 1), proposal.log_std.repeat(k, 1))
            z = choose(layer, product(repeated, self.prior(index, len(repeated.mean), z)))

    def _walk_up(self, h: Tensor, k: int, choose: Choose) -> None:
        """Every posterior follows from the layer below."""
        below = h
        for layer, encoder in zip(reversed(self.layers), self.encoders, strict=True):
            posterior = self._gaussian(encoder, below)
            if below is h:
                posterior = Gaussian(posterior.mean.repeat(k, 1), posterior.log_std.repeat(k, 1))
            below = choose(layer, posterior)


def product(a: Gaussian, b: Gaussian) -> Gaussian:
    """The normalized product of two Gaussians: precisions add, means weighted by them (arXiv:1602.02282, eqs. 9, 10).

    >>> zero = torch.zeros(1)
    >>> out = product(Gaussian(zero, zero), Gaussian(zero + 2, zero))
    >>> out.mean.item(), round(out.log_std.exp().item() ** 2, 3)
    (1.0, 0.5)
    """
    log_precision = torch.logaddexp(-2 * a.log_std, -2 * b.log_std)
    share = torch.sigmoid(2 * (b.log_std - a.log_std))  # of a's precision
    return Gaussian(share * a.mean + (1 - share) * b.mean, -0.5 * log_precision)
