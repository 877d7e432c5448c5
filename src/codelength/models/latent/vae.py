"""VAE: images explained by Gaussian latents, with a lower bound on log P(x); IWAE: the same, trained with K samples.

Idea. z ~ N(0, I), x ~ P(x | z) with independent sites given z. An encoder q(z | x) = N(mean(x), diag std(x)²) proposes
latents, and the weights w = P(x | z) p(z) / q(z | x), z ~ q, have mean P(x):

    E log w  <=  E log (1/K) Σ_k w_k  <=  log P(x).

The VAE maximizes the one-sample log w with reparametrized z = mean + std ε. Of the three terms log q depends on the
parameters through log std alone (−log q(z | x) = Σ log std + ε²/2 + const), so that the analytic KL would only
replace the sampled −z²/2 by its mean; the plain weights are kept, which are what evaluation uses too.

The IWAE maximizes the K-sample bound itself. Its gradient for the encoder gets noisier, relative to itself, as K grows; the
doubly-reparametrized one (arXiv:1810.04152, eq. 7), with the same mean, does not: the path through z is weighted by
w̃_k² instead of w̃_k, w̃ = w / Σ w, and log q is held fixed but for z.

Papers: Kingma & Welling, arXiv:1312.6114; Rezende et al., arXiv:1401.4082; K samples: arXiv:1509.00519.
Departures: any pixel likelihood; residual convolutional networks; log std is bounded to ±5.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codelength import randomness
from codelength.errors import unknown_name
from codelength.functional import log_mean_exp
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
from codelength.models.latent.networks import conv_decoder, conv_encoder, dense
from codelength.pixels import PixelDistribution, pixel_likelihood
from codelength.randomness import Noise
from codelength.space import Space

NETWORKS = ("conv", "dense")
INITIAL_LOG_STD = -2.0


class VAE(LatentModel):
    """One layer of Gaussian latents; bounded by `log_weights`.

    Args:
        space: Images; with "conv" networks, of sizes divisible by 2^downsamplings.
        latents: Latents of a datum; with `spatial`, of a site of the smallest feature map.
        pixels: Pixel likelihood, "bernoulli", "categorical" or "logistic_mixture"; by default "bernoulli" for two
            levels, else "logistic_mixture".
        components: Mixture components of "logistic_mixture".
        network: "conv" or "dense".
        filters: Hidden channels, or hidden units of "dense".
        blocks: Residual blocks of a resolution, or hidden layers of "dense".
        downsamplings: Halvings of the resolution between data and latents ("conv").
        spatial: Keep the latents a map, (latents, H / 2^d, W / 2^d): finer, but dearer in KL ("conv").
        samples: K of the bound that training maximizes; 1 is the ELBO.
        doubly_reparametrized: Take the doubly-reparametrized gradient of that bound.

    Raises:
        ValueError: The space or an option does not fit.
    """

    def __init__(
        self,
        space: Space,
        *,
        latents: int = 32,
        pixels: str | None = None,
        components: int | None = None,
        network: str = "conv",
        filters: int = 64,
        blocks: int = 1,
        downsamplings: int = 2,
        spatial: bool = False,
        samples: int = 1,
        doubly_reparametrized: bool = False,
    ) -> None:
        super().__init__(space)
        self.likelihood = pixel_likelihood(space, pixels, components)
        if samples < 1:
            raise ValueError(f"VAE: samples={samples}; wanted 1 or more")
        self.samples, self.doubly_reparametrized = samples, doubly_reparametrized
        if network not in NETWORKS:
            raise unknown_name("network of the VAE", network, NETWORKS)
        channels, height, width = space.sizes
        outputs = self.likelihood.num_parameters
        if network == "dense":
            if spatial:
                raise ValueError("VAE: spatial latents need network='conv'; a dense network has no map")
            self.latent_shape: tuple[int, ...] = (latents,)
            self.encoder = dense(space.num_dims, 2 * latents, filters, blocks)
            decoder = dense(latents, outputs * height * width, filters, blocks)
            self.decoder = nn.Sequential(decoder, nn.Unflatten(1, (outputs, height, width)))
        else:
            factor = 2**downsamplings
            if downsamplings < 1 or height % factor or width % factor:
                raise ValueError(
                    f"VAE: {height} x {width} sites and downsamplings={downsamplings}; wanted 1 or more, and sizes "
                    f"that are multiples of {factor}. Use fewer, or pad or crop the images"
                )
            small = (height // factor, width // factor)
            self._build_conv(channels, outputs, latents, small, filters, blocks, downsamplings, spatial)
        self.layers = {"z": self.latent_shape}
        self._start_sane()

    def _build_conv(
        self,
        channels: int,
        outputs: int,
        latents: int,
        small: tuple[int, int],
        filters: int,
        blocks: int,
        downsamplings: int,
        spatial: bool,
    ) -> None:
        sizes = (filters, blocks, downsamplings)
        if spatial:
            self.latent_shape = (latents, *small)
            self.encoder = conv_encoder(channels, 2 * latents, *sizes)
            self.decoder = conv_decoder(latents, outputs, *sizes)
            return
        features, sites = filters // 2 or 1, small[0] * small[1]
        self.latent_shape = (latents,)
        self.encoder = nn.Sequential(
            conv_encoder(channels, features, *sizes),
            nn.Flatten(),
            nn.SiLU(),
            nn.Linear(features * sites, 2 * latents),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latents, features * sites),
            nn.Unflatten(1, (features, *small)),
            conv_decoder(features, outputs, *sizes),
        )

    def _start_sane(self) -> None:
        """q starts narrow and blind to x in its width, P(x | z) near the likelihood's broad initial distribution.

        Were q the prior at first, z would be noise that the decoder learns to ignore before the encoder can use it.
        """
        layers = (nn.Conv2d, nn.Linear)
        first = [module for module in self.encoder.modules() if isinstance(module, layers)][-1]
        last = [module for module in self.decoder.modules() if isinstance(module, layers)][-1]
        assert first.bias is not None
        assert last.bias is not None
        with torch.no_grad():
            _, log_std_weight = first.weight.chunk(2)
            mean_bias, log_std_bias = first.bias.chunk(2)
            log_std_weight.zero_()
            mean_bias.zero_()
            log_std_bias.fill_(INITIAL_LOG_STD)
            last.weight.mul_(0.1)
            # PixelShuffle and Unflatten both keep the outputs of a likelihood parameter together.
            initial = self.likelihood.initial()
            last.bias.copy_(initial.repeat_interleave(last.bias.numel() // initial.numel()))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of q(z | x), (B, *latent_shape), of integers x, (B, C, H, W)."""
        levels = (x - self.space.offset).to(self.dtype)
        mean, raw = self.encoder(levels * (2 / (self.space.levels - 1)) - 1).to(self.dtype).chunk(2, dim=1)
        return mean, bounded(raw)

    def decode(self, z: Tensor) -> PixelDistribution:
        """P(x | z) over levels from 0, of latents z, (B, *latent_shape)."""
        return self.likelihood(self.decoder(z))

    def generate(self, n: int, choose: Choose) -> PixelDistribution:
        return self.decode(choose("z", standard_normal(self, n, self.latent_shape)))

    def choose_posterior(self, x: Tensor, choose: Choose) -> None:
        choose("z", Gaussian(*self.encode(x)))

    def infer(self, x: Tensor, k: int, generator: Noise) -> Inference:
        return self._infer(x, k, generator)

    def _infer(self, x: Tensor, k: int, generator: Noise, *, hold_q: bool = False) -> Inference:
        """`infer`; with `hold_q`, log q has a gradient through z alone."""
        x = self.space.validate(x)
        mean, log_std = self.encode(x)
        noise = randomness.normal((k, *mean.shape), generator, device=mean.device, dtype=mean.dtype)
        z = Gaussian(mean, log_std).draw(noise)  # (k, B, *latent_shape)
        log_q = Gaussian(mean.detach(), log_std.detach()).log_prob(z) if hold_q else _log_density(noise, log_std)
        terms = {"log_likelihood": self.decode(z.flatten(0, 1)).log_prob_of_draws(x - self.space.offset, k)}
        zero = torch.zeros_like(mean)
        terms |= latent_terms("z", self.layers, Gaussian(zero, zero).log_prob(z), log_q)
        return Inference({"z": z}, LogWeights(terms))

    def training_objective(self, x: Tensor, generator: Noise) -> Tensor:
        """−log (1/K) Σ w_k with K = `samples`, nats, (B,)."""
        if not self.doubly_reparametrized:
            return -log_mean_exp(self.log_weights(x, self.samples, generator).total)
        inference = self._infer(x, self.samples, generator, hold_q=True)
        log_weights, z = inference.weights.total, inference.latents["z"]
        share = torch.softmax(log_weights.detach(), dim=0)  # (k, B)
        if z.requires_grad:
            weight = share.to(z.dtype).view(*share.shape, *[1] * (z.ndim - 2))
            z.register_hook(lambda gradient: gradient * weight)
        surrogate = -(share * log_weights).sum(0)
        # The value is the bound, the gradient the surrogate's.
        return -log_mean_exp(log_weights.detach()) + (surrogate - surrogate.detach())


def _log_density(noise: Tensor, log_std: Tensor) -> Tensor:
    """log N(mean + std noise; mean, std²): as `Gaussian.log_prob`, without dividing what was just multiplied."""
    zero = torch.zeros_like(log_std)
    return Gaussian(zero, zero).log_prob(noise) - log_std


def iwae(
    space: Space,
    *,
    samples: int = 50,
    doubly_reparametrized: bool = False,
    latents: int = 50,
    pixels: str | None = None,
    components: int | None = None,
    network: str = "dense",
    filters: int = 200,
    blocks: int = 2,
    downsamplings: int = 2,
    spatial: bool = False,
) -> VAE:
    """A VAE trained with the importance-weighted bound of `samples` draws; other options as for `VAE`.

    Raises:
        ValueError: See `VAE`.
    """
    return VAE(
        space,
        samples=samples,
        doubly_reparametrized=doubly_reparametrized,
        latents=latents,
        pixels=pixels,
        components=components,
        network=network,
        filters=filters,
        blocks=blocks,
        downsamplings=downsamplings,
        spatial=spatial,
    )
