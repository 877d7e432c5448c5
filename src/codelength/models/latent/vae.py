"""VAE: images explained by Gaussian latents, with a lower bound on log P(x).

Idea. z ~ N(0, I), x ~ P(x | z) with independent sites given z. An encoder q(z | x) = N(mean(x), diag std(x)²) proposes
latents, and the weights w = P(x | z) p(z) / q(z | x), z ~ q, have mean P(x):

    E log w  <=  E log (1/K) Σ_k w_k  <=  log P(x).

Training maximizes the one-sample log w with reparametrized z = mean + std ε. Of the three terms log q depends on the
parameters through log std alone (−log q(z | x) = Σ log std + ε²/2 + const), so that the analytic KL would only
replace the sampled −z²/2 by its mean; the plain weights are kept, which are what evaluation uses too.

Papers: Kingma & Welling, arXiv:1312.6114; Rezende et al., arXiv:1401.4082; K samples: arXiv:1509.00519.
Departures: any pixel likelihood; residual convolutional networks; log std is bounded to ±5.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from codelength import randomness
from codelength.errors import unknown_name
from codelength.models.base import LikelihoodModel, LogWeights
from codelength.pixels import PixelDistribution, pixel_likelihood
from codelength.randomness import Noise
from codelength.space import Space

NETWORKS = ("conv", "dense")
MAX_LOG_STD = 5.0
INITIAL_LOG_STD = -2.0


class ResidualBlock(nn.Module):
    """h + conv1x1(silu(conv3x3(silu(h)))), (B, filters, H, W)."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(filters, filters, 3, padding=1), nn.Conv2d(filters, filters, 1)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = h + self.second(silu(self.first(silu(h))))
        return out


def _blocks(filters: int, blocks: int) -> list[nn.Module]:
    return [ResidualBlock(filters) for _ in range(blocks)]


def _conv_encoder(channels: int, outputs: int, filters: int, blocks: int, downsamplings: int) -> nn.Sequential:
    """(B, channels, H, W) to (B, outputs, H / 2^d, W / 2^d)."""
    layers: list[nn.Module] = []
    for level in range(downsamplings):
        layers += [nn.Conv2d(filters if level else channels, filters, 4, stride=2, padding=1)]
        layers += _blocks(filters, blocks)
    return nn.Sequential(*layers, nn.Conv2d(filters, outputs, 1))


def _conv_decoder(channels: int, outputs: int, filters: int, blocks: int, downsamplings: int) -> nn.Sequential:
    """(B, channels, H / 2^d, W / 2^d) to (B, outputs, H, W); no layer works at full resolution, for speed.

    Encoder and decoder are linear but for their residual blocks: the fine detail of an image, which a few nonlinear
    layers would have to learn to pass on, reaches the latents and comes back unharmed from the start.
    """
    layers: list[nn.Module] = [nn.Conv2d(channels, filters, 3, padding=1)]
    for level in range(downsamplings):
        layers += _blocks(filters, blocks)
        last = level == downsamplings - 1
        layers += [
            nn.SiLU(),
            nn.Conv2d(filters, 4 * (outputs if last else filters), 3 if last else 1, padding=int(last)),
        ]
        layers += [nn.PixelShuffle(2)]
    return nn.Sequential(*layers)


def _dense(inputs: int, outputs: int, hidden: int, layers: int) -> nn.Sequential:
    sizes = [inputs, *[hidden] * layers]
    hidden_layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.SiLU())]
    return nn.Sequential(nn.Flatten(), *hidden_layers, nn.Linear(hidden, outputs))


class VAE(LikelihoodModel):
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
    ) -> None:
        super().__init__(space)
        self.likelihood = pixel_likelihood(space, pixels, components)
        if network not in NETWORKS:
            raise unknown_name("network of the VAE", network, NETWORKS)
        channels, height, width = space.sizes
        outputs = self.likelihood.num_parameters
        if network == "dense":
            if spatial:
                raise ValueError("VAE: spatial latents need network='conv'; a dense network has no map")
            self.latent_shape: tuple[int, ...] = (latents,)
            self.encoder = _dense(space.num_dims, 2 * latents, filters, blocks)
            decoder = _dense(latents, outputs * height * width, filters, blocks)
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
            self.encoder = _conv_encoder(channels, 2 * latents, *sizes)
            self.decoder = _conv_decoder(latents, outputs, *sizes)
            return
        features, sites = filters // 2 or 1, small[0] * small[1]
        self.latent_shape = (latents,)
        self.encoder = nn.Sequential(
            _conv_encoder(channels, features, *sizes),
            nn.Flatten(),
            nn.SiLU(),
            nn.Linear(features * sites, 2 * latents),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latents, features * sites),
            nn.Unflatten(1, (features, *small)),
            _conv_decoder(features, outputs, *sizes),
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
        return mean, MAX_LOG_STD * torch.tanh(raw / MAX_LOG_STD)

    def decode(self, z: Tensor) -> PixelDistribution:
        """P(x | z) over levels from 0, of latents z, (B, *latent_shape)."""
        return self.likelihood(self.decoder(z))

    def log_weights(self, x: Tensor, k: int, generator: Noise) -> LogWeights:
        """log P(x | z) + log p(z) − log q(z | x) of k latents of each datum.

        Args:
            x: Integers of the space, (B, C, H, W).
            k: Draws of each datum; all k · B are decoded at once, so split a large k.
            generator: Noise of the latents.

        Returns:
            Terms "log_likelihood", "log_prior" and "minus_log_q", (k, B), nats.

        Raises:
            SpaceMismatchError: x is not of the model's space.
        """
        x = self.space.validate(x)
        mean, log_std = self.encode(x)
        noise = randomness.normal((k, *mean.shape), generator, device=mean.device, dtype=mean.dtype)
        z = mean + log_std.exp() * noise  # (k, B, *latent_shape)
        levels = (x - self.space.offset).repeat(k, 1, 1, 1)  # (k B, C, H, W)
        constant = 0.5 * math.log(2 * math.pi)
        return LogWeights(
            {
                "log_likelihood": self.decode(z.flatten(0, 1)).log_prob(levels).unflatten(0, (k, len(x))),
                "log_prior": -(0.5 * z**2 + constant).flatten(2).sum(2),
                "minus_log_q": (0.5 * noise**2 + log_std + constant).flatten(2).sum(2),
            }
        )

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """Draw n data, (n, C, H, W) int64; `temperature` below 1 draws likelier latents and pixels."""
        z = randomness.normal((n, *self.latent_shape), generator, device=self.device, dtype=self.dtype)
        return self.decode(temperature * z).sample(generator=generator, temperature=temperature) + self.space.offset
