"""The last layers of a PixelCNN: a perceptron at every site, channel groups kept apart."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codelength.nn.causal_conv import CausalConv, spread_groups
from codelength.nn.site_cache import CachedCausalConv, Places, Ring, group_slices


class Head(Protocol):
    """What the perceptron needs to know of what reads it."""

    groups: int
    num_parameters: int
    parameter_groups: Tensor

    def initial(self) -> Tensor: ...


class SiteMLP(nn.Module):
    """Two hidden layers of rectifiers and the outputs, as in arXiv:1606.05328, section 2.4 ("ReLU, 1 x 1" twice).

    Args:
        inputs: Features at a site, before a rectifier.
        hidden: Features of the hidden layer.
        head: What reads the outputs; they start at its broad distribution.
    """

    def __init__(self, inputs: int, hidden: int, head: Head) -> None:
        super().__init__()
        before, between = spread_groups(inputs, head.groups), spread_groups(hidden, head.groups)
        self.hidden = CausalConv(before, between, (1, 1), (0, 0), "B", init_scale=1.4)
        self.out = CausalConv(between, head.parameter_groups, (1, 1), (0, 0), "B", init_scale=0.1)
        with torch.no_grad():
            self.out.bias.copy_(head.initial())

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, P, H, W)."""
        out: Tensor = self.out(F.relu(self.hidden(F.relu(x))))
        return out

    def at_sites(self, x: Tensor) -> Tensor:
        """(inputs, N), N sites side by side, to (P, N)."""
        for layer in (self.hidden, self.out):
            x = torch.addmm(layer.bias[:, None], layer.matrix(), F.relu(x))
        return x


class CachedSiteMLP:
    """A `SiteMLP` at some sites, group by group."""

    def __init__(self, mlp: SiteMLP, ring: Ring, groups: int) -> None:
        self.hidden, self.out = (CachedCausalConv(layer, ring, groups) for layer in (mlp.hidden, mlp.out))
        self.inputs_of, self.hidden_of = (group_slices(layer.in_groups, groups) for layer in (mlp.hidden, mlp.out))

    def __call__(self, places: Places, x: Tensor, group: int) -> Tensor:
        """A group's outputs from its features, (n, S, features) to (n, outputs, S)."""
        self.hidden.put(places, F.relu(x), self.inputs_of[group])
        self.out.put(places, F.relu(self.hidden(places, group)), self.hidden_of[group])
        return self.out(places, group).transpose(1, 2)
