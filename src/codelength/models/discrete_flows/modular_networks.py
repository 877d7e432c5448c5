"""The networks of modular flows: location and scale of every site from those that it may see.

All take one-hot sites, (B, S, K), and give (B, S, outputs). `CausalMLP` and `CausalLSTM` see the sites before in an order, `MaskedSites` the fixed half of a bipartite layer.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codelength.nn.masked_mlp import MaskedMLP, SiteMasks


class CausalMLP(nn.Module):
    """A masked multilayer perceptron: site t sees those before it, or those after it where `reverse`."""

    def __init__(self, sites: int, levels: int, hidden: Sequence[int], outputs: int, *, reverse: bool) -> None:
        super().__init__()
        order = torch.arange(sites, device="cpu")
        self.network = MaskedMLP(sites, levels, tuple(hidden), outputs)
        self.masks = SiteMasks(order.flip(0) if reverse else order, tuple(hidden))
        self.sites, self.outputs = sites, outputs

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.network(x.transpose(1, 2).flatten(1), self.masks)
        return out.view(len(x), self.outputs, self.sites).transpose(1, 2)


class CausalLSTM(nn.Module):
    """A stack of LSTMs over sites, shifted by one: site t sees those before it, or those after it where `reverse`."""

    def __init__(self, sites: int, levels: int, hidden: Sequence[int], outputs: int, *, reverse: bool) -> None:
        super().__init__()
        self.reverse = reverse
        self.cells = nn.LSTM(levels, hidden[0], len(hidden), batch_first=True)
        self.out = nn.Linear(hidden[0], outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flip(1) if self.reverse else x
        seen = F.pad(x[:, :-1], (0, 0, 1, 0))
        out: Tensor = self.out(self.cells(seen)[0])
        return out.flip(1) if self.reverse else out


class MaskedSites(nn.Module):
    """A perceptron, or a stack of convolutions, that sees the sites of one half alone.

    Args:
        seen: Which sites it sees, (S,) bool.
        levels: K.
        hidden: Widths.
        outputs: Outputs a site.
        kernel: Width of the convolutions; 0 for a perceptron over all sites.
    """

    seen: Tensor

    def __init__(self, seen: Tensor, levels: int, hidden: Sequence[int], outputs: int, *, kernel: int = 0) -> None:
        super().__init__()
        self.register_buffer("seen", seen, persistent=False)
        self.kernel, self.outputs, sites = kernel, outputs, len(seen)
        widths = [levels + 1 if kernel else levels * sites, *hidden]
        pairs = list(itertools.pairwise(widths))
        if kernel:
            self.hidden = nn.ModuleList(nn.Conv1d(a, b, kernel, padding=kernel // 2) for a, b in pairs)
        else:
            self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)
        self.out = nn.Linear(widths[-1], outputs if kernel else outputs * sites)

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.seen[:, None]
        if self.kernel:
            place = self.seen[None, :, None].to(x.dtype).expand(len(x), -1, 1)
            h = torch.cat([x, place], dim=2).transpose(1, 2)
            for layer in self.hidden:
                h = F.relu(layer(h))
            mixed: Tensor = self.out(h.transpose(1, 2))
            return mixed
        h = x.flatten(1)
        for layer in self.hidden:
            h = F.relu(layer(h))
        out: Tensor = self.out(h)
        return out.view(len(x), -1, self.outputs)
