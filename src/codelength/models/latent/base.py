"""What every latent-variable model shares: layers of Gaussian latents, ancestral generation, inference, interventions.

A latent model is its `layers`, top first, and two passes:

    generate    z_1 ~ p(z_1), z_2 ~ p(z_2 | z_1), ..., x ~ P(x | z): `choose` decides how each latent is drawn
    infer       z ~ q(z | x), with the terms of log P(x | z) + Σ_l [log p(z_l | ...) − log q(z_l | ...)]

Everything else follows from `generate` and the choice of latents: sampling draws them, do() sets one, annealed importance
sampling moves their noise (z_l = mean + std e_l, e_l ~ N(0, 1), is the same model in other coordinates), and given latents
tell what the prior expected of them.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from codelength import randomness
from codelength.models.base import LikelihoodModel, LogWeights
from codelength.models.latent.intervention import Interventions, Setting
from codelength.pixels import PixelDistribution
from codelength.randomness import Noise

MAX_LOG_STD = 5.0


@dataclass(frozen=True)
class Gaussian:
    """Independent Gaussians, one a latent.

    Args:
        mean, log_std: (n, *shape), or shapes that broadcast.
    """

    mean: Tensor
    log_std: Tensor

    def draw(self, noise: Tensor) -> Tensor:
        """mean + std · noise."""
        return self.mean + self.log_std.exp() * noise

    def noise_of(self, z: Tensor) -> Tensor:
        """The standard normal noise that `draw` turns into z."""
        return (z - self.mean) * torch.exp(-self.log_std)

    def log_prob(self, z: Tensor) -> Tensor:
        """log density of each latent, nats, of z's shape."""
        return -(0.5 * self.noise_of(z) ** 2 + self.log_std + 0.5 * math.log(2 * math.pi))


def bounded(raw: Tensor) -> Tensor:
    """A network's output as a log standard deviation within ±5, smoothly: the identity near 0."""
    return MAX_LOG_STD * torch.tanh(raw / MAX_LOG_STD)


Choose = Callable[[str, Gaussian], Tensor]


@dataclass(frozen=True)
class Inference:
    """k draws of all latents of each datum, with their weights.

    Args:
        latents: Layer -> (k, B, *shape), in the order of generation.
        weights: Terms "log_likelihood", "log_prior..." and "minus_log_q...", (k, B), nats.
    """

    latents: dict[str, Tensor]
    weights: LogWeights


class LatentModel(LikelihoodModel):
    """Base of models with Gaussian latents; `layers` maps the name of each layer to its shape, top first."""

    layers: dict[str, tuple[int, ...]]

    @abstractmethod
    def generate(self, n: int, choose: Choose) -> PixelDistribution:
        """P(x | z) over levels from 0 of n data, whose latents are chosen layer by layer.

        Args:
            n: Number of data.
            choose: Called with a layer's name and its prior given the layers above; returns its latents, (n, *shape).
        """

    @abstractmethod
    def infer(self, x: Tensor, k: int, generator: Noise) -> Inference:
        """Draw k latents of each datum from q(z | x) and weigh them.

        Raises:
            SpaceMismatchError: x is not of the model's space.
        """

    def choose_posterior(self, x: Tensor, choose: Choose) -> None:
        """Walk through q(z | x) in its own order, as `generate` through the prior: what bits-back coding needs.

        Args:
            x: Integers of the space, (n, C, H, W).
            choose: Called with a layer's name and its Gaussian given x and the layers before; returns its latents, (n, *shape).

        Raises:
            NotImplementedError: The posterior is no chain of Gaussians; `posterior_is_gaussian` says so.
        """
        raise NotImplementedError(f"{type(self).__name__} has no chain of Gaussians as its posterior")

    @property
    def posterior_is_gaussian(self) -> bool:
        """Whether each layer of q(z | x) is Gaussian given the layers before, so that `choose_posterior` can say it."""
        return type(self).choose_posterior is not LatentModel.choose_posterior

    def log_weights(self, x: Tensor, k: int, generator: Noise) -> LogWeights:
        """Log importance weights log P(x, z) − log q(z | x) of k draws of each datum.

        Args:
            x: Integers of the space, (B, C, H, W).
            k: Draws of each datum; all k · B are decoded at once, so split a large k.
            generator: Noise of the latents.

        Returns:
            Terms "log_likelihood", and for each layer "log_prior" and "minus_log_q" (with the layer's name behind, where
            there are several), (k, B), nats.
        """
        return self.infer(x, k, generator).weights

    def log_likelihood(self, x: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
        """log P(x | z) of integers x, (n, C, H, W), whose latents have this noise, layer -> (n, *shape); nats, (n,)."""
        distribution = self.generate(len(x), lambda layer, prior: prior.draw(noise[layer]))
        return distribution.log_prob(x - self.space.offset)

    @torch.no_grad()
    def simulate(self, n: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """n data of the model, (n, C, H, W), with the noise of their latents: an exact draw from the posterior of each."""
        noise = self.draw_noise(n, generator)
        distribution = self.generate(n, lambda layer, prior: prior.draw(noise[layer]))
        return distribution.sample(generator=generator) + self.space.offset, noise

    def draw_noise(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Standard normal noise of every layer, (n, *shape)."""
        return {
            layer: randomness.normal((n, *shape), generator, device=self.device, dtype=self.dtype)
            for layer, shape in self.layers.items()
        }

    @torch.no_grad()
    def sample(
        self, n: int, generator: torch.Generator, temperature: float = 1.0, do: Mapping[str, Setting] | None = None
    ) -> Tensor:
        """Draw n data, (n, C, H, W) int64.

        Args:
            n: Number of data.
            generator: Source of all noise.
            temperature: Below 1 draws likelier latents and pixels.
            do: Latents to set, as in `do={"z": value}` (a whole layer, a number or a tensor (*shape) or (n, *shape)) or
                `do={"z[3]": 2.0}` (one unit, a number or (n,)). Layers above are drawn as ever and what lies below
                follows from the value: p(x | do(z)), which is not p(x | z).

        Raises:
            UsageError: `do` names no latent of the model, or its value has another shape.
        """
        interventions = Interventions(self.layers, do or {}, n)
        noise = self.draw_noise(
            n, generator
        )  # drawn before it is known what is set: the rest is the same for any value
        distribution = self.generate(
            n, lambda layer, prior: interventions.apply(layer, prior.draw(temperature * noise[layer]))
        )
        return distribution.sample(generator=generator, temperature=temperature) + self.space.offset


def latent_terms(
    layer: str, layers: Mapping[str, tuple[int, ...]], log_prior: Tensor, log_q: Tensor
) -> dict[str, Tensor]:
    """The terms of one layer, summed over its latents: log densities (k, B, *shape) to (k, B)."""
    behind = f"_{layer}" if len(layers) > 1 else ""
    return {
        f"log_prior{behind}": log_prior.flatten(2).sum(2),
        f"minus_log_q{behind}": -log_q.flatten(2).sum(2),
    }


def kl_of_layers(terms: Mapping[str, Tensor], layers: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Layer -> its sampled KL, log q(z_l | ...) − log p(z_l | ...), of the shape of the terms, nats."""
    behind = {layer: f"_{layer}" if len(layers) > 1 else "" for layer in layers}
    return {layer: -(terms[f"log_prior{end}"] + terms[f"minus_log_q{end}"]) for layer, end in behind.items()}


def standard_normal(model: LikelihoodModel, n: int, shape: tuple[int, ...]) -> Gaussian:
    """N(0, I) of n data."""
    zero = torch.zeros((n, *shape), device=model.device, dtype=model.dtype)
    return Gaussian(zero, zero)
