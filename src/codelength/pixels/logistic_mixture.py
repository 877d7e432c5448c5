"""Mixture of discretized logistics, with or without the RGB coupling of PixelCNN++.

For a pixel with channels r, g, b and mixture component k

    P(r, g, b) = Σ_k π_k  P_k(r)  P_k(g | r)  P_k(b | r, g),

each P_k a discretized logistic with open edge bins. The component is shared by the channels of a pixel; the formulas are in
`codelength.functional.logistic_mixture`.

Reference: PixelCNN++, arXiv:1701.05517, eqs. (1)-(3).
"""

from __future__ import annotations

import itertools
from functools import cached_property

import torch
from torch import Tensor

from codelength.functional import (
    MixtureLayout,
    MixtureParameters,
    discretized_logistic_cdf,
    discretized_logistic_log_mass,
    logistic_mixture_log_mass,
    unpack_mixture,
)
from codelength.pixels.distribution import ChannelDistribution, PixelDistribution


class LogisticMixtureChannel(ChannelDistribution):
    """One channel: components on the last dim, all parameters (B, *S, K)."""

    def __init__(self, logits: Tensor, mean: Tensor, log_scale: Tensor, levels: int) -> None:
        self.logits, self.component_mean, self.log_scale, self.levels = logits, mean, log_scale, levels

    def log_prob(self, value: Tensor) -> Tensor:
        log_mass = discretized_logistic_log_mass(value.unsqueeze(-1), self.component_mean, self.log_scale, self.levels)
        return torch.logsumexp(torch.log_softmax(self.logits, dim=-1) + log_mass, dim=-1)

    def probs(self) -> Tensor:
        weights, mean, log_scale = self._float64
        value = torch.arange(self.levels, device=mean.device)
        total = torch.zeros((*mean.shape[:-1], self.levels), dtype=torch.float64, device=mean.device)
        for k in range(mean.shape[-1]):  # a loop keeps memory at one table, not K
            log_mass = discretized_logistic_log_mass(value, mean[..., k, None], log_scale[..., k, None], self.levels)
            total += weights[..., k, None] * log_mass.exp()
        return total

    def cdf(self, value: Tensor) -> Tensor:
        weights, mean, log_scale = self._float64
        cdf = (weights * discretized_logistic_cdf(value.unsqueeze(-1), mean, log_scale, self.levels)).sum(-1)
        return torch.where(value >= self.levels - 1, torch.ones_like(cdf), cdf)

    def sample(self, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        component, noise = draw_logistics(self.logits, -1, 1, generator, temperature)
        index = component.unsqueeze(-1)
        mean, log_scale = (p.double().gather(-1, index).squeeze(-1) for p in (self.component_mean, self.log_scale))
        return _nearest_level(mean + log_scale.exp() * noise[0], self.levels)

    @cached_property
    def _float64(self) -> tuple[Tensor, Tensor, Tensor]:
        return torch.softmax(self.logits.double(), dim=-1), self.component_mean.double(), self.log_scale.double()


def draw_logistics(
    logits: Tensor, dim: int, channels: int, generator: torch.Generator | None, temperature: float
) -> tuple[Tensor, Tensor]:
    """A component for each place and standard logistic noise for each channel, (channels, *places), float64.

    One uniform number a draw, by inversion, so that draws depend on the generator alone. At temperature 0 the component
    is the likeliest and the noise zero.
    """
    if temperature == 0:
        component = logits.argmax(dim)
        return component, torch.zeros((channels, *component.shape), dtype=torch.float64, device=logits.device)
    cumulative = torch.softmax(logits.double() / temperature, dim=dim).cumsum(dim)
    places = cumulative.select(dim, 0).shape
    device = generator.device if generator is not None else torch.device("cpu")
    uniform = torch.rand((1 + channels, *places), generator=generator, dtype=torch.float64, device=device)
    uniform = uniform.to(logits.device)
    component = (cumulative < uniform[0].unsqueeze(dim)).sum(dim).clamp_(max=logits.shape[dim] - 1)
    return component, torch.logit(uniform[1:].clamp_(1e-16, 1 - 1e-16)) * temperature


def _nearest_level(y: Tensor, levels: int) -> Tensor:
    """The level whose bin holds y, on the scale where levels span [−1, 1]; the edge bins take what lies beyond them."""
    return ((y + 1) / 2 * (levels - 1)).round().clamp(0, levels - 1).long()


class LogisticMixture(PixelDistribution):
    """Mixture of K discretized logistics at every site.

    Args:
        outputs: What a network says, (B, P, *S).
        layout: How it says it.
        span: Centre and half width of the part of [−1, 1] that the outputs take for [−1, 1], (2,); None: all of it.
    """

    def __init__(self, outputs: Tensor, layout: MixtureLayout, span: Tensor | None = None) -> None:
        self.outputs, self.layout, self.span = outputs, layout, span
        super().__init__(len(outputs), layout.channels, outputs.shape[2:], layout.levels)

    @cached_property
    def parameters(self) -> MixtureParameters:
        """Weights, means, scales and coupling, which `log_prob` does without."""
        return unpack_mixture(self.outputs, self.layout, self.span)

    def channel(self, c: int, previous: Tensor) -> LogisticMixtureChannel:
        own = self.parameters
        logits = torch.log_softmax(own.logits, dim=1)
        for log_mass in own.component_log_masses(previous[:, :c]):
            logits = logits + log_mass  # the component's posterior after the channels before
        mean = own.conditional_mean(c, own.scale(previous[:, :c]))
        parameters = (logits, mean, own.log_scale[:, :, c])
        logits, mean, log_scale = (p.movedim(1, -1) for p in parameters)
        return LogisticMixtureChannel(logits, mean, log_scale, self.levels)

    def log_prob_per_dim(self, value: Tensor) -> Tensor:
        self._check(value)
        joint = torch.log_softmax(self.parameters.logits, dim=1)
        totals = [torch.zeros_like(joint[:, 0])]
        for log_mass in self.parameters.component_log_masses(value):
            joint = joint + log_mass
            totals.append(torch.logsumexp(joint, dim=1))
        return torch.stack([after - before for before, after in itertools.pairwise(totals)], dim=1)

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(value)
        log_mass = logistic_mixture_log_mass(self.outputs, value.to(self.outputs.device), self.layout, self.span)
        return log_mass.flatten(1).sum(1, dtype=torch.float64)

    def _sample_once(self, generator: torch.Generator | None, temperature: float) -> Tensor:
        """Draw the component, then its channels one after the other: cheaper than channel by channel of the mixture."""
        own = self.parameters
        component, noise = draw_logistics(own.logits, 1, self.channels, generator, temperature)

        def chosen(parameters: Tensor) -> Tensor:
            index = component[:, None, None].expand(-1, 1, *parameters.shape[2:])
            return parameters.double().gather(1, index)  # (B, 1, ..., *S)

        mean, scale = chosen(own.mean), chosen(own.log_scale).exp()
        coefficients = None if own.coefficients is None else chosen(own.coefficients)
        picked = MixtureParameters(component.unsqueeze(1), mean, scale, coefficients, self.levels)
        values: list[Tensor] = []
        for c in range(self.channels):
            scaled = picked.scale(torch.stack(values, dim=1)) if values else mean[:, 0, :0]
            centre = picked.conditional_mean(c, scaled)[:, 0]
            values.append(_nearest_level(centre + scale[:, 0, c] * noise[c], self.levels))
        return torch.stack(values, dim=1)
