"""Gated PixelCNN: two stacks of causal convolutions that together see every site before, and gates instead of rectifiers.

The *vertical* stack at (i, j) sees the rows above i, without a mask and so without a blind spot. The *horizontal* stack sees
what lies to the left in row i, and reads the vertical stack through a linear map. With k the kernel's width,

    v' = W_v * v + V_v y                       (k//2 + 1) x k,   rows above and the feature's own
    h' = W_h * h + U v' + V_h y                1 x (k//2 + 1),   left and itself (mask B)
    v  <- tanh(v'_a) σ(v'_b),    h <- h + W_r (tanh(h'_a) σ(h'_b)),        P(x_site | sites before) = likelihood(MLP(h)),

y the class, where the model is conditioned on it. The first layer reads the image: rows above only, and left only (mask A).

Reference: Gated PixelCNN, arXiv:1606.05328, sections 2.1-2.3, figures 1-2, eqs. (2) and (4). Departures: a channel of ones tells the image
from the zeros around it; dropout is an option; other pixel likelihoods than categorical are, too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codelength.models.autoregressive.base import raster_schedule
from codelength.models.autoregressive.channel_order import SiteSteps
from codelength.models.autoregressive.gated_pixelcnn_steps import GatedPixelCNNSteps
from codelength.models.autoregressive.site_model import SiteModel, check_network
from codelength.models.base import Positions
from codelength.nn.activations import byte_dropout
from codelength.nn.causal_conv import CausalConv, spread_groups
from codelength.nn.conditions import LabelBias
from codelength.nn.gated_activation import gated_tanh
from codelength.nn.site_mlp import SiteMLP
from codelength.space import Space


class GatedLayer(nn.Module):
    """One layer of both stacks.

    Args:
        in_groups: Group of each input feature of both stacks.
        groups: Group of each of the F features that leave a gate.
        kernel: Width k of the kernels, odd.
        first: Whether it reads the image: nothing of the own row, nothing of the own site, no residual.
        classes: Number of classes it is conditioned on, 0 for none.
        dropout: Probability of dropout behind the gate of the horizontal stack.
        last: Whether nothing reads the vertical stack after it.
    """

    def __init__(
        self, in_groups: Tensor, groups: Tensor, kernel: int, *, first: bool, last: bool, classes: int, dropout: float
    ) -> None:
        super().__init__()
        self.first, self.last, self.dropout = first, last, dropout
        reach, halves = kernel // 2, torch.cat([groups, groups])
        self.vertical = CausalConv(in_groups, halves, (reach + (not first), kernel), (reach, reach))
        self.across = CausalConv(halves, halves, (1, 1), (0, 0), init_scale=0.7)
        self.horizontal = CausalConv(
            in_groups, halves, (1, reach + 1), (0, reach), "A" if first else "B", init_scale=0.7
        )
        self.out = CausalConv(groups, groups, (1, 1), (0, 0), "B")
        self.vertical_class = LabelBias(classes, len(halves)) if classes else None
        self.horizontal_class = LabelBias(classes, len(halves)) if classes else None

    def forward(self, v: Tensor, h: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
        """Both stacks at every site, (B, inputs, H, W) to (B, F, H, W)."""
        v = _add_class(self.vertical(v), self.vertical_class, label)
        gates = _add_class(self.horizontal(h) + self.across(v), self.horizontal_class, label)
        update = self.out(byte_dropout(gated_tanh(gates), self.dropout, self.training))
        return v if self.last else gated_tanh(v), update if self.first else h + update


def _add_class(x: Tensor, bias: LabelBias | None, label: Tensor | None) -> Tensor:
    return x if bias is None else x + bias(label)[:, :, None, None]


class GatedPixelCNN(SiteModel):
    """Gated PixelCNN.

    Args:
        space: Images; sizes may be open for `log_prob`.
        filters: Features F of each stack.
        layers: Layers, the first one included.
        kernel: Width of the kernels, odd.
        first_kernel: Width of the first layer's, odd.
        head_filters: Features of the two hidden layers behind the last horizontal features; None: F.
        dropout: Dropout behind the gates of the horizontal stack, in training.
        pixels: "bernoulli", "categorical" or "logistic_mixture"; by default the first for two levels, else the last.
        components: Mixture components of "logistic_mixture".
        coupling: Whether the channels of "logistic_mixture" depend on each other given the component; on for colour.
        channel_masks: Separate the channels by masks; by default where there are several and the likelihood does not join
            them (all but "logistic_mixture").
        class_conditional: Condition on the class, passed as `label=`: it is added in every gate.

    Raises:
        UsageError: The options do not fit each other or the space.
    """

    def __init__(
        self,
        space: Space,
        *,
        filters: int = 128,
        layers: int = 15,
        kernel: int = 3,
        first_kernel: int = 7,
        head_filters: int | None = None,
        dropout: float = 0.0,
        pixels: str | None = None,
        components: int | None = None,
        coupling: bool | None = None,
        channel_masks: bool | None = None,
        class_conditional: bool = False,
    ) -> None:
        super().__init__(
            space,
            pixels=pixels,
            components=components,
            coupling=coupling,
            channel_masks=channel_masks,
            class_conditional=class_conditional,
        )
        hidden = head_filters or filters
        kernels = (kernel, first_kernel)
        check_network(self.head.groups, dropout, kernels=kernels, filters=filters, head_filters=hidden, layers=layers)
        groups = spread_groups(filters, self.head.groups)
        self.reach = max(kernel, first_kernel) // 2
        self.layers = nn.ModuleList(
            GatedLayer(
                groups if index else self.input_groups,
                groups,
                kernel if index else first_kernel,
                first=index == 0,
                last=index == layers - 1,
                classes=self.classes,
                dropout=dropout,
            )
            for index in range(layers)
        )
        self.out = SiteMLP(filters, hidden, self.head)

    @property
    def stack(self) -> list[GatedLayer]:
        """The layers, in order."""
        return [layer for layer in self.layers if isinstance(layer, GatedLayer)]

    def outputs(self, levels: Tensor, label: Tensor | None = None) -> Tensor:
        """The network's outputs at every site, (B, C, H, W) to (B, P, H, W)."""
        v = h = self.inputs(levels)
        for layer in self.stack:
            v, h = layer(v, h, label)
        out: Tensor = self.out(h)
        return out

    @property
    def schedule(self) -> list[Positions]:
        _, height, width = self.space.sizes
        return raster_schedule(height, width)

    def start(self, n: int, label: Tensor | None) -> SiteSteps:
        return GatedPixelCNNSteps(self, n, label)
