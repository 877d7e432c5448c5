"""Discrete flows (Tran et al., arXiv:1905.10347): invertible maps of sequences of residues, modulo their number of levels.

    z_d = σ_d^{−1} (x_d − μ_d) mod K,        log P(x) = log P_base(z)

"autoregressive": μ_d and σ_d depend on the sites before d (after d in every second layer); "bipartite": half of the sites give those of the other half, by turns. μ and σ are the largest of K
logits and of the logits of those residues that have an inverse modulo K. The gradient of a one-hot argmax is that of a softmax.

The base is factorized, Π_d P_d(z_d), or autoregressive. With no layers it is a model of its own: the one that the paper compares with.

Reference: arXiv:1905.10347. Departures: each network starts near μ = 0, σ = 1; the softmax of the gradient has temperature 1 unless told otherwise (the paper:
0.1), which finds scales other than 1 more often.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codelength.errors import UsageError
from codelength.models.base import LikelihoodModel
from codelength.models.discrete_flows.modular import (
    invertible_residues,
    one_hot_to_latent,
    to_data,
    to_latent,
)
from codelength.models.discrete_flows.modular_networks import CausalLSTM, CausalMLP, MaskedSites
from codelength.models.discrete_flows.straight_through import straight_through_one_hot
from codelength.space import Space

Kind = Literal["autoregressive", "bipartite"]
KINDS = ("autoregressive", "bipartite")
BASES = ("factorized", "autoregressive")
NETWORKS = ("mlp", "sequence")


class ModularLayer(nn.Module):
    """One layer: x to z and back.

    Args:
        network: (B, S, K) one-hot to (B, S, K + φ(K)) logits of location and scale.
        levels: K.
        moved: Sites that are mapped, (S,) bool; the others stay.
        order: Sites in the order in which the way back finds them; None where all moved sites depend on fixed ones alone.
        temperature: Of the straight-through gradient.
        scales: Whether σ may be other than 1.
    """

    moved: Tensor
    residues: Tensor

    def __init__(
        self,
        network: nn.Module,
        levels: int,
        moved: Tensor,
        order: list[int] | None,
        *,
        temperature: float,
        scales: bool,
    ) -> None:
        super().__init__()
        self.network, self.levels, self.order, self.temperature, self.scales = (
            network,
            levels,
            order,
            temperature,
            scales,
        )
        self.register_buffer("moved", moved, persistent=False)
        self.register_buffer("residues", invertible_residues(levels), persistent=False)
        self.first = nn.Parameter(torch.zeros(levels + (len(self.residues) if scales else 0)))
        # Near the identity, location 0 and scale 1, and near enough to the others that the softmax has a gradient.
        with torch.no_grad():
            self.first[0] = temperature
            if scales:
                self.first[levels] = temperature

    def logits(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits of location (B, S, K) and scale (B, S, φ(K)), given one-hot sites."""
        out = self.network(x) + self.first
        return out[..., : self.levels], out[..., self.levels :] if self.scales else None

    def forward(self, x: Tensor) -> Tensor:
        """One-hot x to one-hot z, (B, S, K), differentiable."""
        location, scale = self.logits(x)
        soft = None if scale is None else straight_through_one_hot(scale, self.temperature)
        z = one_hot_to_latent(x, straight_through_one_hot(location, self.temperature), soft, self.levels)
        return torch.where(self.moved[:, None], z, x)

    def parameters_of(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Location and scale of every site, integers (B, S), given integers."""
        location, scale = self.logits(F.one_hot(x, self.levels).to(self.first.dtype))
        ones = torch.ones_like(location[..., 0], dtype=torch.long)
        return location.argmax(-1), ones if scale is None else self.residues[scale.argmax(-1)]

    def to_latent(self, x: Tensor) -> Tensor:
        """Integers x to z, (B, S)."""
        return torch.where(self.moved, to_latent(x, *self.parameters_of(x), self.levels), x)

    def to_data(self, z: Tensor) -> Tensor:
        """Integers z to x, (B, S): one pass, or one a site where the layer is autoregressive."""
        if self.order is None:
            return torch.where(self.moved, to_data(z, *self.parameters_of(z), self.levels), z)
        x = torch.zeros_like(z)
        for site in self.order:
            location, scale = self.parameters_of(x)
            x[:, site] = to_data(z[:, site], location[:, site], scale[:, site], self.levels)
        return x


class DiscreteFlow(LikelihoodModel):
    """Discrete flow over vectors, sequences or images of few levels, in the order of their memory.

    Args:
        space: Data of a fixed size.
        flow: "autoregressive" or "bipartite".
        layers: Number of layers; 0 for the base alone.
        base: "factorized" or "autoregressive".
        hidden: Widths of each layer's network.
        base_hidden: Those of an autoregressive base; `hidden` without it.
        network: "mlp": dense networks over all sites. "sequence": LSTMs, and convolutions of width `kernel` for bipartite layers.
        kernel: See `network`.
        temperature: Of the straight-through gradient.
        scales: Whether σ may be other than 1; False gives locations alone.

    Raises:
        UsageError: An option is unknown or out of range.
    """

    def __init__(
        self,
        space: Space,
        *,
        flow: Kind = "bipartite",
        layers: int = 2,
        base: str = "factorized",
        hidden: Sequence[int] = (64,),
        base_hidden: Sequence[int] | None = None,
        network: str = "mlp",
        kernel: int = 9,
        temperature: float = 1.0,
        scales: bool = True,
    ) -> None:
        super().__init__(space)
        for name, value, known in (("flow", flow, KINDS), ("base", base, BASES), ("network", network, NETWORKS)):
            if value not in known:
                raise UsageError(f"{name}={value!r}; wanted {' or '.join(known)}")
        if layers < 0 or temperature <= 0 or not hidden:
            raise UsageError(
                f"layers={layers}, temperature={temperature}, hidden={hidden}; wanted 0 or more, above 0, and one width or more"
            )
        self.sites, self.levels = space.num_dims, space.levels
        self._lstm, self._kernel = network == "sequence", kernel if network == "sequence" else 0
        outputs = self.levels + (len(invertible_residues(self.levels)) if scales else 0)
        self.layers = nn.ModuleList(
            self._layer(flow, index, tuple(hidden), outputs, temperature, scales) for index in range(layers)
        )
        self.base = self._causal(tuple(base_hidden or hidden), self.levels) if base == "autoregressive" else None
        self.base_logits = nn.Parameter(torch.zeros(self.sites, self.levels))

    def _causal(self, hidden: tuple[int, ...], outputs: int, *, reverse: bool = False) -> nn.Module:
        kind = CausalLSTM if self._lstm else CausalMLP
        return kind(self.sites, self.levels, hidden, outputs, reverse=reverse)

    def _layer(
        self, flow: Kind, index: int, hidden: tuple[int, ...], outputs: int, temperature: float, scales: bool
    ) -> ModularLayer:
        order, network, moved = None, None, torch.ones(self.sites, dtype=torch.bool)
        if flow == "autoregressive":
            reverse = index % 2 == 1
            network = self._causal(hidden, outputs, reverse=reverse)
            order = list(range(self.sites))[:: -1 if reverse else 1]
        else:
            moved = torch.arange(self.sites) % 2 == (index + 1) % 2
            network = MaskedSites(~moved, self.levels, hidden, outputs, kernel=self._kernel)
        return ModularLayer(network, self.levels, moved, order, temperature=temperature, scales=scales)

    @property
    def stack(self) -> list[ModularLayer]:
        """The layers, from data to latents."""
        return [layer for layer in self.layers if isinstance(layer, ModularLayer)]

    def _flat(self, x: Tensor) -> Tensor:
        return (self.space.validate(x) - self.space.offset).flatten(1)

    def base_logits_of(self, z: Tensor) -> Tensor:
        """Logits of the base at every site, (B, S, K), given one-hot z."""
        logits = self.base_logits.expand(len(z), -1, -1)
        return logits if self.base is None else logits + self.base(z)

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log P(x), nats, (B,)."""
        z = F.one_hot(self._flat(x), self.levels).to(self.dtype)
        for layer in self.stack:
            z = layer(z)
        log_masses = torch.log_softmax(self.base_logits_of(z).to(z.dtype), dim=-1)
        return (z * log_masses).flatten(1).sum(1, dtype=torch.float64)

    @torch.no_grad()
    def latents(self, x: Tensor) -> Tensor:
        """z = f(x), integers 0 .. K − 1, (B, S)."""
        z = self._flat(x)
        for layer in self.stack:
            z = layer.to_latent(z)
        return z

    @torch.no_grad()
    def from_latents(self, z: Tensor) -> Tensor:
        """The data whose `latents` these are."""
        for layer in reversed(self.stack):
            z = layer.to_data(z)
        return z.unflatten(1, self.space.sizes) + self.space.offset

    @torch.no_grad()
    def layer_parameters(self, x: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """For each layer its locations and scales on data, and which sites it maps: (B, S), (B, S), (S,)."""
        z, found = self._flat(x), []
        for layer in self.stack:
            found.append((*layer.parameters_of(z), layer.moved))
            z = layer.to_latent(z)
        return found

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """Draw n data, int64."""
        z = torch.zeros((n, self.sites), dtype=torch.long, device=self.device)
        for site in range(self.sites):
            logits = self.base_logits_of(F.one_hot(z, self.levels).to(self.dtype))[:, site]
            if temperature == 0:
                z[:, site] = logits.argmax(-1)
                continue
            probs = torch.softmax(logits.double() / temperature, dim=-1)
            z[:, site] = torch.multinomial(probs.cpu(), 1, generator=generator)[:, 0].to(z.device)
        return self.from_latents(z)
