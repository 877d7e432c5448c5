"""Mean field: every position has its own distribution, independent of all others.

P(x) = Π_s P_s(x_s), where s runs over sites and the channels of a site are joined by the pixel likelihood. What is
left between this model and an autoregressive one is what neighbours say about each other.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from codelength.models.autoregressive.base import AutoregressiveModel, all_sites
from codelength.models.base import Positions
from codelength.pixels import EmissionBernoulli, PixelDistribution, pixel_likelihood
from codelength.space import Space


class MeanField(AutoregressiveModel):
    """Independent sites with learned parameters each.

    Args:
        space: Images.
        pixels: "bernoulli", "emission", "categorical" or "logistic_mixture"; by default "bernoulli" for two levels,
            else "logistic_mixture".
        components: Mixture components of "logistic_mixture".
    """

    def __init__(self, space: Space, *, pixels: str | None = None, components: int | None = None) -> None:
        super().__init__(space)
        self.likelihood = pixel_likelihood(space, pixels, components, emission=True)
        _, height, width = space.sizes
        initial = self.likelihood.initial()
        self.site_parameters = nn.Parameter(initial[:, None, None].expand(-1, height, width).clone())

    def conditionals(self, x: Tensor, **conditions: Tensor) -> PixelDistribution:
        """The distribution of every site; x gives only the batch size."""
        self.check_conditions(conditions, len(x))
        return self.likelihood(self.site_parameters.expand(len(x), -1, -1, -1))

    @property
    def expected_log_prob(self) -> Callable[[Tensor], Tensor] | None:
        """intensity (B, C, H, W) in [0, 1] -> E over dynamic binarizations of log P, nats, (B,).

        Only with pixels="emission"; None otherwise.
        """
        return self._expected_log_prob if self.likelihood.name == "emission" else None

    def _expected_log_prob(self, intensity: Tensor) -> Tensor:
        distribution = self.conditionals(intensity)
        assert isinstance(distribution, EmissionBernoulli)
        return distribution.expected_log_prob_per_dim(intensity).flatten(1).sum(1, dtype=torch.float64)

    @property
    def schedule(self) -> list[Positions]:
        _, height, width = self.space.sizes
        return all_sites(height, width)

    def init_state(self, n: int, **conditions: Tensor) -> int:
        """The number of data."""
        self.check_conditions(conditions, n)
        return n

    @torch.no_grad()
    def step(self, state: int, values: Tensor | None) -> tuple[PixelDistribution, int]:
        return self.likelihood(self.site_parameters.flatten(1).expand(state, -1, -1)), state
