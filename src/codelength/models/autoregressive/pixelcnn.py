"""PixelCNN: residual blocks of masked convolutions.

    P(x) = Π_sites Π_c P(x_site,c | sites before, x_site,<c)

A 7 x 7 convolution with mask A reads the image; residual blocks

    x + W_3 relu(W_2 * relu(W_1 relu(x))),     1 x 1 (2h -> h), 3 x 3 (h -> h), 1 x 1 (h -> 2h), all with mask B,

widen what a site sees, and a perceptron at every site gives its distribution. Where the likelihood does not join the channels of a
site, the masks do: features are split into groups, and green sees red, blue sees both.

What it does not see: a kernel reaches one column to the right a row up (the first one three), so that beyond this line to the upper
right lies a *blind spot*, however many blocks there are. In return all sites on such a line are computed in one step: column + 4 row =
t for the first kernel of 7.

Reference: PixelRNN, arXiv:1601.06759, sections 3.3-3.5, table 1 and figures 4-5. Departures: a channel of ones tells the image from the
zeros around it; dropout, classes, and other pixel likelihoods than categorical are options.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from codelength.models.autoregressive.base import wavefront_schedule
from codelength.models.autoregressive.channel_order import SiteSteps
from codelength.models.autoregressive.pixelcnn_steps import PixelCNNSteps
from codelength.models.autoregressive.site_model import SiteModel, check_network
from codelength.models.base import Positions
from codelength.nn.activations import byte_dropout
from codelength.nn.causal_conv import CausalConv, spread_groups
from codelength.nn.conditions import LabelBias
from codelength.nn.site_mlp import SiteMLP
from codelength.space import Space


class ResidualBlock(nn.Module):
    """The bottleneck block.

    Args:
        outer: Group of each of the 2h features outside.
        inner: Group of each of the h features inside.
        kernel: Width of the kernel, odd.
        classes: Number of classes it is conditioned on, 0 for none.
        dropout: Probability of dropout before the last layer.
        init_scale: Scale of the update at the start.
    """

    def __init__(
        self, outer: Tensor, inner: Tensor, kernel: int, *, classes: int, dropout: float, init_scale: float
    ) -> None:
        super().__init__()
        self.dropout, reach = dropout, kernel // 2
        self.reduce = CausalConv(outer, inner, (1, 1), (0, 0), "B", init_scale=1.4)
        self.conv = CausalConv(inner, inner, (reach + 1, kernel), (reach, reach), "B", init_scale=1.4)
        self.expand = CausalConv(inner, outer, (1, 1), (0, 0), "B", init_scale=1.4 * init_scale)
        self.class_bias = LabelBias(classes, len(inner)) if classes else None

    def forward(self, x: Tensor, label: Tensor | None) -> Tensor:
        """(B, 2h, H, W) to (B, 2h, H, W)."""
        inner = self.conv(F.relu(self.reduce(F.relu(x))))
        if self.class_bias is not None:
            inner = inner + self.class_bias(label)[:, :, None, None]
        return x + self.expand(byte_dropout(F.relu(inner), self.dropout, self.training))


class PixelCNN(SiteModel):
    """PixelCNN.

    Args:
        space: Images; sizes may be open for `log_prob`.
        filters: h; the residual stream has 2h features.
        layers: Residual blocks.
        kernel: Width of the kernels, odd.
        first_kernel: Width of the first layer's, odd.
        head_filters: Features of the hidden layer of the perceptron; None: 2h.
        dropout: Dropout in the blocks, in training.
        pixels: "bernoulli", "categorical" or "logistic_mixture"; by default the first for two levels, else the last.
        components: Mixture components of "logistic_mixture".
        coupling: Whether the channels of "logistic_mixture" depend on each other given the component; on for colour.
        channel_masks: Separate the channels by masks; by default where there are several and the likelihood does not join
            them (all but "logistic_mixture").
        class_conditional: Condition on the class, passed as `label=`: it is added in every block.

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
        hidden = head_filters or 2 * filters
        kernels = (kernel, first_kernel)
        check_network(self.head.groups, dropout, kernels=kernels, filters=filters, head_filters=hidden, layers=layers)
        inner, outer = (spread_groups(features, self.head.groups) for features in (filters, 2 * filters))
        self.reach, reach = max(kernel, first_kernel) // 2, first_kernel // 2
        self.first = CausalConv(self.input_groups, outer, (reach + 1, first_kernel), (reach, reach), "A")
        self.blocks = nn.ModuleList(
            ResidualBlock(outer, inner, kernel, classes=self.classes, dropout=dropout, init_scale=layers**-0.5)
            for _ in range(layers)
        )
        self.out = SiteMLP(2 * filters, hidden, self.head)

    @property
    def stack(self) -> list[ResidualBlock]:
        """The blocks, in order."""
        return [block for block in self.blocks if isinstance(block, ResidualBlock)]

    def outputs(self, levels: Tensor, label: Tensor | None = None) -> Tensor:
        """The network's outputs at every site, (B, C, H, W) to (B, P, H, W)."""
        x = self.first(self.inputs(levels))
        for block in self.stack:
            x = block(x, label)
        out: Tensor = self.out(x)
        return out

    @property
    def slope(self) -> int:
        """Columns that a row's wavefront is ahead of that of the row below."""
        return self.reach + 1

    @property
    def schedule(self) -> list[Positions]:
        """Wavefronts: no kernel reaches further right than `reach` columns a row up."""
        _, height, width = self.space.sizes
        return wavefront_schedule(height, width, self.slope)

    @property
    def raster_causal(self) -> bool:
        """Kernels hold rows above and sites to the left; wavefronts only visit sites in another order."""
        return True

    def start(self, n: int, label: Tensor | None) -> SiteSteps:
        return PixelCNNSteps(self, n, label)
