"""Mixture of discretized logistics over data of which a part has a coarser step, such as 8-bit sound stored with 16 bits.

    P(x) = ε P_1(x) + (1 − ε) P_g(x),    P_g(x) = Σ_k π_k [σ((x + g/2 − μ_k)/s_k) − σ((x − g/2 − μ_k)/s_k)]  on multiples of g, else 0,

with x counted from the middle of the range, edge bins open in both, and one set of parameters for both: P_g integrates the same mixture over bins g wide. Where g = 1 this is the mixture
itself. A mixture without P_g cannot say that only every 256th level occurs, and pays 8 bits a sample for it.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from codelength.functional import (
    MixtureLayout,
    discretized_logistic_cdf,
    discretized_logistic_log_mass,
    logistic_mixture_log_mass,
    unpack_mixture,
)
from codelength.pixels.distribution import ChannelDistribution, PixelDistribution
from codelength.pixels.logistic_mixture import LogisticMixtureChannel, draw_logistics


class SteppedMixtureChannel(ChannelDistribution):
    """One channel: the mixture's, steps g (B, *S) int64 and the logits of ε (B, *S)."""

    def __init__(self, fine: LogisticMixtureChannel, step: Tensor, escape: Tensor) -> None:
        self.fine, self.step, self.escape, self.levels = fine, step, escape, fine.levels
        self.middle = self.levels // 2
        # Multiples of g are counted from the lowest one, `first` steps below the middle.
        self.first = self.middle // step
        self.multiples = self.first + (self.levels - 1 - self.middle) // step + 1

    @cached_property
    def _coarse(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights, and means and log scales on the scale where the multiples span [−1, 1], (B, *S, K), float64."""
        weights = torch.softmax(self.fine.logits.double(), dim=-1)
        half_range = (self.levels - 1) / 2
        step, half_multiples = self.step.unsqueeze(-1), (self.multiples - 1).unsqueeze(-1) / 2
        mean = ((self.fine.component_mean.double() + 1) * half_range - self.middle) / step + self.first.unsqueeze(-1)
        log_scale = self.fine.log_scale.double() + (half_range / step / half_multiples).log()
        return weights, mean / half_multiples - 1, log_scale

    def log_prob(self, value: Tensor) -> Tensor:
        fine, offset = self.fine.log_prob(value), value - self.middle
        _, mean, log_scale = self._coarse
        place = (torch.div(offset, self.step, rounding_mode="floor") + self.first).unsqueeze(-1)
        levels = self.multiples.unsqueeze(-1)
        mass = discretized_logistic_log_mass(
            place, mean.to(self.fine.logits.dtype), log_scale.to(self.fine.logits.dtype), levels
        )
        coarse = torch.logsumexp(torch.log_softmax(self.fine.logits, dim=-1) + mass, dim=-1)
        return blend(fine, coarse, self.escape, self.step, offset)

    def probs(self) -> Tensor:
        value = torch.arange(self.levels, device=self.step.device)
        below = torch.zeros(self.step.shape, dtype=torch.float64, device=self.step.device)
        table = self.fine.probs()
        escape = self._escape.unsqueeze(-1)
        coarse = torch.zeros_like(table)
        cdf = [self._coarse_cdf(torch.full_like(self.step, int(v))) for v in value]
        for v, here in enumerate(cdf):
            coarse[..., v], below = here - below, here
        return escape * table + (1 - escape) * coarse

    def cdf(self, value: Tensor) -> Tensor:
        cdf = self.fine.cdf(value)
        if bool((self.step > 1).any()):
            cdf = self._escape * cdf + (1 - self._escape) * self._coarse_cdf(value)
        return torch.where(value >= self.levels - 1, torch.ones_like(cdf), cdf)

    @cached_property
    def _escape(self) -> Tensor:
        """ε, (B, *S), float64; 1 where the step is 1."""
        return torch.where(self.step == 1, 1.0, torch.sigmoid(self.escape.double()))

    def _coarse_cdf(self, value: Tensor) -> Tensor:
        """P_g(X <= value): (B, *S) to (B, *S), float64."""
        weights, mean, log_scale = self._coarse
        place = torch.div(value - self.middle, self.step, rounding_mode="floor") + self.first
        cdf = discretized_logistic_cdf(place.unsqueeze(-1), mean, log_scale, self.multiples.unsqueeze(-1))
        return (weights * cdf).sum(-1)

    def sample(self, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        drawn = self.fine.sample(generator, temperature)
        device = generator.device if generator is not None else torch.device("cpu")
        uniform = torch.rand(self.step.shape, generator=generator, dtype=torch.float64, device=device).to(drawn.device)
        # Of the same mixture, a draw before it is rounded: bins of width g do not end where levels do.
        component, noise = draw_logistics(self.fine.logits, -1, 1, generator, temperature)
        _, means, log_scales = self._coarse
        mean, log_scale = (p.gather(-1, component.unsqueeze(-1)).squeeze(-1) for p in (means, log_scales))
        y = mean + log_scale.exp() * noise[0]
        place = ((y + 1) / 2 * (self.multiples - 1)).round().long()
        coarse = (torch.minimum(place.clamp(min=0), self.multiples - 1) - self.first) * self.step + self.middle
        return torch.where((self.step == 1) | (uniform < self._escape * (temperature > 0)), drawn, coarse)


def blend(fine: Tensor, coarse: Tensor, escape: Tensor, step: Tensor, offset: Tensor) -> Tensor:
    """log P(x) from the two log masses; x − middle is `offset`."""
    escaped = logsigmoid(escape) + fine
    both = torch.where(offset % step == 0, torch.logaddexp(escaped, logsigmoid(-escape) + coarse), escaped)
    return torch.where(step == 1, fine, both)


class SteppedMixture(PixelDistribution):
    """Mixture of K discretized logistics at every site of one channel, on steps of its own at each.

    Args:
        outputs: What a network says of the mixture, (B, P, *S).
        layout: How it says it; one channel.
        step: g of every site, a power of two, (B, *S) int64.
        escape: Logit of ε, (B, *S).
    """

    def __init__(self, outputs: Tensor, layout: MixtureLayout, step: Tensor, escape: Tensor) -> None:
        self.outputs, self.layout, self.step, self.escape = outputs, layout, step, escape
        super().__init__(len(outputs), 1, outputs.shape[2:], layout.levels)

    def channel(self, c: int, previous: Tensor) -> SteppedMixtureChannel:
        return self._channel(self.outputs, self.step, self.escape)

    def _channel(self, outputs: Tensor, step: Tensor, escape: Tensor) -> SteppedMixtureChannel:
        own = unpack_mixture(outputs, self.layout)
        parts = (own.logits, own.mean[:, :, 0], own.log_scale[:, :, 0])
        logits, mean, log_scale = (part.movedim(1, -1) for part in parts)
        return SteppedMixtureChannel(LogisticMixtureChannel(logits, mean, log_scale, self.levels), step, escape)

    def log_prob_per_dim(self, value: Tensor) -> Tensor:
        self._check(value)
        log_mass = logistic_mixture_log_mass(self.outputs, value, self.layout)
        chosen = self.step > 1
        if not chosen.any():
            return log_mass.unsqueeze(1)
        some = self.outputs.movedim(1, -1)[chosen]  # (N, P): only they need the second mass
        channel = self._channel(some, self.step[chosen], self.escape[chosen])
        return log_mass.masked_scatter(chosen, channel.log_prob(value[:, 0][chosen]).to(log_mass.dtype)).unsqueeze(1)
