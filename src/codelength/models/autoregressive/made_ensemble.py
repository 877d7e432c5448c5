"""An ensemble of MADEs over coding orders that share their weights.

    P(x) = (1/K) Σ_k P_k(x),

an equal mixture of K autoregressive models: probabilities are averaged, never log-probabilities or logits, whose
average is no distribution. A mixture of different orders has no conditionals in any one order, so it is scored and
sampled but not coded site by site.

Reference: MADE, arXiv:1502.03509, section 4.2 (order-agnostic training: a random order a training step). The hidden
degrees are the same in all orders.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from codelength.errors import UsageError
from codelength.functional import log_mean_exp
from codelength.models.autoregressive.made import OrderedMADE, made_network, site_order
from codelength.models.autoregressive.stepwise import sample_stepwise
from codelength.models.base import LikelihoodModel
from codelength.nn.masked_mlp import SiteMasks
from codelength.pixels import pixel_likelihood
from codelength.randomness import SharedNoise, integers
from codelength.space import Space


class OrderingEnsemble(LikelihoodModel):
    """Mixture of one MADE network read in K coding orders: raster and K − 1 random ones.

    Args:
        space: Images.
        orderings: Number of orders K.
        ordering_seed: Seed of the first random order.
        hidden, residual, one_hot, dropout, pixels, components: As for `MADE`.

    Raises:
        UsageError: The options do not fit each other or the space.
    """

    def __init__(
        self,
        space: Space,
        *,
        orderings: int = 8,
        ordering_seed: int = 0,
        hidden: Sequence[int] = (500, 500),
        residual: bool = False,
        one_hot: bool = False,
        dropout: float = 0.0,
        pixels: str | None = None,
        components: int | None = None,
    ) -> None:
        super().__init__(space)
        if orderings < 1:
            raise UsageError(f"orderings={orderings}; wanted at least 1")
        self.likelihood = pixel_likelihood(space, pixels, components)
        self.network = made_network(space, self.likelihood, tuple(hidden), residual, one_hot, dropout)
        orders = [site_order(space, "random", ordering_seed + k) for k in range(orderings - 1)]
        self.masks = nn.ModuleList(
            SiteMasks(order, tuple(hidden)) for order in [site_order(space, "raster", 0), *orders]
        )
        self.one_hot = one_hot

    def ordered(self, k: int) -> OrderedMADE:
        """The weights read in order k."""
        masks = self.masks[k]
        assert isinstance(masks, SiteMasks)
        return OrderedMADE(self.space, self.network, masks, self.likelihood, self.one_hot)

    def log_prob(self, x: Tensor) -> Tensor:
        """log of the mean probability over orders, nats, (B,)."""
        levels = self.space.validate(x) - self.space.offset
        per_order = [self.ordered(k).conditionals(levels).log_prob(levels) for k in range(len(self.masks))]
        return log_mean_exp(torch.stack(per_order), dim=0)

    def training_objective(self, x: Tensor, generator: torch.Generator | SharedNoise) -> Tensor:
        """−log P_k(x) in an order k drawn at random, nats, (B,): its mean over k bounds −log P(x) from above."""
        k = int(integers(len(self.masks), (), generator))
        levels = self.space.validate(x) - self.space.offset
        return -self.ordered(k).conditionals(levels).log_prob(levels)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """Draw n data, each in an order drawn at random, (n, C, H, W) int64."""
        choice = torch.randint(len(self.masks), (n,), generator=generator, device=generator.device)
        out = torch.zeros((n, *self.space.sizes), dtype=torch.long, device=self.device)
        for k in range(len(self.masks)):
            chosen = (choice == k).nonzero().flatten().to(self.device)
            if len(chosen):
                out[chosen] = sample_stepwise(self.ordered(k), len(chosen), generator, temperature)
        return out
