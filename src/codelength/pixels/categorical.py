"""Categorical pixels: a free probability for every level, as in PixelRNN (arXiv:1601.06759, section 2.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from codelength.pixels.distribution import ChannelDistribution, PixelDistribution


class CategoricalChannel(ChannelDistribution):
    """Levels with their own logits, (B, *S, levels)."""

    def __init__(self, logits: Tensor) -> None:
        self.logits, self.levels = logits, logits.shape[-1]

    def log_prob(self, value: Tensor) -> Tensor:
        log_probs = torch.log_softmax(_at_least_float32(self.logits), dim=-1)
        return log_probs.gather(-1, value.long().unsqueeze(-1)).squeeze(-1)

    def probs(self) -> Tensor:
        return torch.softmax(self.logits.double(), dim=-1)

    def sample(self, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        if temperature == 0:
            return self.logits.argmax(-1)
        probs = torch.softmax(self.logits.double() / temperature, dim=-1)
        uniform = torch.rand(probs.shape[:-1], generator=generator, dtype=torch.float64, device=_device(generator))
        # Inversion of the CDF: one uniform number a draw, so that samples depend on the generator alone.
        return (probs.cumsum(-1) < uniform.to(probs.device).unsqueeze(-1)).sum(-1).clamp(max=self.levels - 1)


class Categorical(PixelDistribution):
    """Independent categorical channels.

    Args:
        logits: (B, C, levels, *S).
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        super().__init__(logits.shape[0], logits.shape[1], logits.shape[3:], logits.shape[2])

    def channel(self, c: int, previous: Tensor) -> CategoricalChannel:
        return CategoricalChannel(self.logits[:, c].movedim(1, -1))

    def log_prob_per_dim(self, value: Tensor) -> Tensor:
        self._check(value)
        log_probs = torch.log_softmax(_at_least_float32(self.logits), dim=2)
        return log_probs.gather(2, value.long().unsqueeze(2)).squeeze(2)


def _at_least_float32(x: Tensor) -> Tensor:
    """Half precision to float32: a softmax in bfloat16 is off by tenths of a nat in the tails."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _device(generator: torch.Generator | None) -> torch.device:
    return generator.device if generator is not None else torch.device("cpu")
