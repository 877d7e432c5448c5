"""A multilayer perceptron whose outputs at a site see only the sites before it.

Every hidden unit has a degree m in 1 .. S − 1 and sees the m first sites of the coding order; a unit feeds units of
the same or a higher degree; the outputs at place t of the order read the units of degree t or less. A path from input
to output then always leads to a later place.

Reference: MADE, arXiv:1502.03509, eqs. (12)-(13). There degrees are drawn at random; here they are spread evenly and
sorted, so that the units that become known together lie together.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codelength.errors import UsageError
from codelength.nn.activations import dropout
from codelength.nn.conditions import LabelBias


def hidden_degrees(size: int, sites: int) -> Tensor:
    """Degrees of `size` hidden units, spread evenly over 1 .. sites − 1, ascending, int64.

    >>> hidden_degrees(4, 5).tolist()
    [1, 2, 3, 4]
    """
    return 1 + torch.arange(size, device="cpu") * max(sites - 1, 1) // size


class SiteMasks(nn.Module):
    """The masks of a `MaskedMLP` for one coding order; buffers that are rebuilt, not saved.

    `sites[t]` is the site at place t of the order; `ends[l][m]` of the units of hidden layer l have degree m or less; `degrees[l]` are theirs.

    Args:
        order: Place of each site in the coding order, a permutation of 0 .. S − 1, (S,).
        hidden: Sizes of the hidden layers.
    """

    input: Tensor
    output: Tensor

    def __init__(self, order: Tensor, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.degrees = degrees = [hidden_degrees(size, len(order)) for size in hidden]
        self.order = order
        self.sites = order.argsort().tolist()
        places = torch.arange(len(order) + 1, device="cpu")
        self.ends = [torch.searchsorted(d, places, right=True).tolist() for d in degrees]
        between = [b[:, None] >= a[None, :] for a, b in itertools.pairwise(degrees)]
        self.register_buffer("input", order[None, :] < degrees[0][:, None], persistent=False)  # (H_1, S)
        self.register_buffer("output", order[:, None] >= degrees[-1][None, :], persistent=False)  # (S, H_last)
        for index, mask in enumerate(between):
            self.register_buffer(f"hidden_{index}", mask, persistent=False)  # (H_l+1, H_l)

    def hidden(self, index: int) -> Tensor:
        """Mask between hidden layers `index` and `index` + 1."""
        mask: Tensor = getattr(self, f"hidden_{index}")
        return mask


class MaskedMLP(nn.Module):
    """The weights; `forward` takes the masks, so that several coding orders can share them.

    Args:
        sites: Number of sites S.
        inputs: Numbers that describe a site, E.
        hidden: Sizes of the hidden layers.
        outputs: Outputs a site, P.
        residual: Add each hidden layer's input to its output; all hidden layers must have one size.
        dropout: Probability of dropping a hidden unit in training.
        classes: Number of classes the network is conditioned on; 0 for none. Every hidden unit gains a bias of the class,
            and so does every output, the same at all sites: the first site reads no unit.

    Raises:
        UsageError: No hidden layer, or residual layers of different sizes.
    """

    def __init__(
        self,
        sites: int,
        inputs: int,
        hidden: tuple[int, ...],
        outputs: int,
        *,
        residual: bool = False,
        dropout: float = 0.0,
        classes: int = 0,
    ) -> None:
        super().__init__()
        if not hidden or min(hidden) < 1:
            raise UsageError(f"hidden={list(hidden)}; wanted one or more positive layer sizes")
        if residual and len(set(hidden)) > 1:
            raise UsageError(f"hidden={list(hidden)} with residual=true; residual layers must have one size")
        self.sites, self.residual, self.dropout = sites, residual, dropout
        self.input = nn.Linear(inputs * sites, hidden[0])
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(hidden))
        self.output = nn.Linear(hidden[-1], outputs * sites)
        self.class_hidden = nn.ModuleList(LabelBias(classes, size) for size in hidden if classes)
        self.class_output = LabelBias(classes, outputs) if classes else None

    def hidden_layer(self, index: int) -> nn.Linear:
        """The layer between hidden layers `index` and `index` + 1."""
        layer = self.hidden[index]
        assert isinstance(layer, nn.Linear)
        return layer

    def input_weight(self, masks: SiteMasks) -> Tensor:
        """Masked weight of the first layer, (H_1, E * S)."""
        weight = self.input.weight.unflatten(1, (-1, self.sites))  # (H_1, E, S)
        return (weight * masks.input[:, None, :]).flatten(1)

    def output_weight(self, masks: SiteMasks) -> Tensor:
        """Masked weight of the last layer, (P * S, H_last)."""
        weight = self.output.weight.unflatten(0, (-1, self.sites))  # (P, S, H_last)
        return (weight * masks.output).flatten(0, 1)

    def class_biases(self, label: Tensor | None) -> tuple[list[Tensor] | None, Tensor | None]:
        """What a class adds to each hidden layer, (B, H_l) each, and to the outputs of a site, (B, P)."""
        if self.class_output is None or label is None:
            return None, None
        return [bias(label) for bias in self.class_hidden], self.class_output(label)

    def forward(self, x: Tensor, masks: SiteMasks, label: Tensor | None = None) -> Tensor:
        """Outputs of all sites.

        Args:
            x: (B, E * S), numbers of all sites for the first E, then the second ...
            masks: Masks of a coding order.
            label: Classes, (B,), where the network is conditioned.

        Returns:
            (B, P * S), in the order of x.
        """
        class_hidden, class_output = self.class_biases(label)
        h = F.linear(x, self.input_weight(masks), self.input.bias)
        if class_hidden is not None:
            h = h + class_hidden[0]
        for index in range(len(self.hidden)):
            layer = self.hidden_layer(index)
            update = F.linear(self._activate(h), layer.weight * masks.hidden(index), layer.bias)
            if class_hidden is not None:
                update = update + class_hidden[index + 1]
            h = h + update if self.residual else update
        out = F.linear(self._activate(h), self.output_weight(masks), self.output.bias)
        return out if class_output is None else out + class_output.repeat_interleave(self.sites, dim=1)

    def _activate(self, h: Tensor) -> Tensor:
        return dropout(F.relu(h), self.dropout, self.training)
