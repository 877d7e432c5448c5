"""PixelCNN++: a convolutional network that gives every pixel its distribution given the pixels above and to the left.

Two streams cross the image. The *down* stream at (i, j) sees the rows above i; the *right* stream sees them through the
down stream, and the pixels to the left in row i. Kernels are shifted instead of masked. The network is a ladder: blocks at
full resolution, then at a half, then at a quarter (encoder), and back (decoder), with shortcuts between the blocks of
equal resolution.

    P(x) = Π_sites P(x_site | sites above and to the left),

where the channels of a site are joined by the pixel likelihood: a mixture of logistics whose means of green and blue move
with the channels before.

Reference: PixelCNN++, arXiv:1701.05517. The paper's network: filters=160, blocks=5, stages=3, components=10, dropout=0.5,
53.7 million parameters. Departure: `dropout` is rounded to a multiple of 1/256.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codelength.errors import UsageError
from codelength.models.autoregressive.base import AutoregressiveModel, raster_schedule
from codelength.models.autoregressive.pixelcnn_pp_steps import PixelCNNPPState
from codelength.models.base import Positions
from codelength.nn.activations import Feature
from codelength.nn.conditions import LABEL, conditioning_of, label_classes
from codelength.nn.fused_block import activate
from codelength.nn.gated_residual import GatedResidual
from codelength.nn.level_scale import LevelScale
from codelength.nn.shifted_conv import (
    PointwiseLinear,
    ShiftedConv,
    ShiftedTransposedConv,
    WeightNormed,
    normalize_outputs,
)
from codelength.pixels import PixelDistribution, pixel_likelihood
from codelength.space import Space

DOWN, RIGHT = (2, 3), (2, 2)  # kernels of the two streams


class Stage(nn.Module):
    """The blocks at one resolution, and inside them the next lower one.

    Args:
        depth: Number of resolutions from this one down.
        blocks: Blocks of the encoder; the decoder has one more where there is a lower resolution.
        filters, dropout, classes: As for `GatedResidual`.
    """

    def __init__(self, depth: int, blocks: int, filters: int, dropout: float, classes: int) -> None:
        super().__init__()

        def streams(count: int, kernel: tuple[int, int], aux: int) -> nn.ModuleList:
            return nn.ModuleList(GatedResidual(filters, kernel, aux, dropout, classes) for _ in range(count))

        self.encode_down, self.encode_right = streams(blocks, DOWN, 0), streams(blocks, RIGHT, 1)
        self.inner: Stage | None = None
        if depth > 1:
            self.shrink_down = ShiftedConv(filters, filters, DOWN, (1, 1), stride=2)
            self.shrink_right = ShiftedConv(filters, filters, RIGHT, (1, 1), stride=2)
            self.inner = Stage(depth - 1, blocks, filters, dropout, classes)
            self.grow_down = ShiftedTransposedConv(filters, filters, DOWN)
            self.grow_right = ShiftedTransposedConv(filters, filters, RIGHT)
        decoder_blocks = blocks + 1 if depth > 1 else blocks
        self.decode_down, self.decode_right = streams(decoder_blocks, DOWN, 1), streams(decoder_blocks, RIGHT, 2)

    def forward(self, down: Feature, right: Feature, label: Tensor | None) -> tuple[Feature, Feature]:
        """Both streams through encoder, lower resolutions and decoder, (B, F, H, W) each."""
        shortcuts = [(down, right)]
        for down_block, right_block in zip(self.encode_down, self.encode_right, strict=True):
            down = down_block(down, label=label)
            right = right_block(right, down.active, label=label)
            shortcuts.append((down, right))
        if self.inner is None:
            shortcuts.pop()
        else:
            crop = not torch.is_grad_enabled()  # as in the blocks
            half = (down.value.shape[2] // 2, down.value.shape[3] // 2)
            shrunk = self.shrink_down(down.value, crop=crop), self.shrink_right(right.value, crop=crop)
            down, right = self.inner(*(activate(c, sites=half) for c in shrunk), label)
            down, right = activate(self.grow_down(down.value)), activate(self.grow_right(right.value))
        for down_block, right_block in zip(self.decode_down, self.decode_right, strict=True):
            shortcut_down, shortcut_right = shortcuts.pop()
            down = down_block(down, shortcut_down.active, label=label)
            right = right_block(right, down.active, shortcut_right.active, label=label)
        return down, right


class PixelCNNPP(AutoregressiveModel):
    """PixelCNN++.

    Args:
        space: Images; height and width must be divisible by 2^(stages − 1). They may be open for `log_prob`.
        filters: Channels of the streams.
        blocks: Residual blocks a stage.
        stages: Resolutions: the image's, a half of it, ...
        components: Mixture components of "logistic_mixture".
        dropout: Dropout in every block, in training.
        pixels: "bernoulli", "categorical" or "logistic_mixture"; by default the first for two levels, else the last.
        coupling: Whether the channels of "logistic_mixture" depend on each other given the component; on for colour.
        class_conditional: Condition on the class, passed as `label=`: every block gains a linear map of it.

    Raises:
        UsageError: The options do not fit each other or the space.
    """

    def __init__(
        self,
        space: Space,
        *,
        filters: int = 160,
        blocks: int = 5,
        stages: int = 3,
        components: int | None = None,
        dropout: float = 0.5,
        pixels: str | None = None,
        coupling: bool | None = None,
        class_conditional: bool = False,
    ) -> None:
        classes = label_classes(space, class_conditional)
        super().__init__(space, conditioning=conditioning_of(classes))
        self.likelihood = pixel_likelihood(space, pixels, components, coupling=coupling)
        self.stages = stages
        self.level_scale = LevelScale(space.levels)
        _check_options(space, filters, blocks, stages, dropout)
        channels = (space.shape[0] or 1) + 1  # and a channel of ones, which tells the image from the zeros around it
        self.first_down = ShiftedConv(channels, filters, DOWN, (2, 1))
        self.first_above = ShiftedConv(channels, filters, (1, 3), (1, 1))
        self.first_left = ShiftedConv(channels, filters, (2, 1), (1, 1))
        self.ladder = Stage(stages, blocks, filters, dropout, classes)
        self.head = PointwiseLinear(filters, self.likelihood.num_parameters, init_scale=0.1)
        self.initialized: Tensor
        self.register_buffer("initialized", torch.tensor(False))
        with torch.no_grad():
            self.head.bias.copy_(self.likelihood.initial())

    def conditionals(self, x: Tensor, **conditions: Tensor) -> PixelDistribution:
        label = self.check_conditions(conditions, len(x)).get(LABEL)
        return self.distribution(self.outputs(x - self.space.offset, label))

    def distribution(self, outputs: Tensor) -> PixelDistribution:
        """The distribution that the network's outputs, (B, P, *S), stand for."""
        return self.likelihood(outputs, self.level_scale.span if self.likelihood.spans else None)

    def outputs(self, levels: Tensor, label: Tensor | None = None) -> Tensor:
        """The network's outputs at every site, (B, C, H, W) to (B, P, H, W)."""
        _check_sizes(levels.shape[2], levels.shape[3], self.stages)
        x = self.embed(levels)
        crop, sites = not torch.is_grad_enabled(), (x.shape[2], x.shape[3])
        down = activate(self.first_down(x, crop=crop), sites=sites)
        right = activate(self.first_above(x, crop=crop), self.first_left(x, crop=crop), sites=sites)
        _, right = self.ladder(down, right, label)
        # elu is the first half of concat_elu.
        out: Tensor = self.head(right.active[:, : right.value.shape[1]])
        return out

    @torch.no_grad()
    def initialize(self, x: Tensor, generator: torch.Generator, **conditions: Tensor) -> None:
        """Set gains and biases from a batch, as the paper does, so that every layer starts at a moderate scale.

        A second call changes nothing; that it was called is saved with the weights. The last layer keeps its start. Above
        256 levels the part of the range that inputs and mixtures speak of is taken from the batch too.
        """
        if self.initialized:
            return
        self.level_scale.fit(x - self.space.offset)
        layers = [m for m in self.modules() if isinstance(m, WeightNormed) and m is not self.head]
        training = self.training
        normalize_outputs(layers, lambda: self.eval().conditionals(x, **conditions))
        self.train(training)
        self.initialized.fill_(True)

    def embed(self, levels: Tensor) -> Tensor:
        """Levels scaled to [−1, 1] and a channel of ones, (B, C, H, W) to (B, C + 1, H, W) channels-last."""
        scaled = self.scale(levels)
        return torch.cat([scaled, torch.ones_like(scaled[:, :1])], dim=1).contiguous(memory_format=torch.channels_last)

    def scale(self, levels: Tensor) -> Tensor:
        """Levels on [−1, 1] (`LevelScale`), in the type of the parameters."""
        scaled: Tensor = self.level_scale(levels, self.dtype)
        return scaled

    @property
    def schedule(self) -> list[Positions]:
        _, height, width = self.space.sizes
        return raster_schedule(height, width)

    @torch.no_grad()
    def init_state(self, n: int, **conditions: Tensor) -> PixelCNNPPState:
        return PixelCNNPPState(self, n, self.check_conditions(conditions, n).get(LABEL))

    @torch.no_grad()
    def step(self, state: PixelCNNPPState, values: Tensor | None) -> tuple[PixelDistribution, PixelCNNPPState]:
        if values is not None:
            state.put(self.scale(values[:, :, 0].to(self.device)))
        return self.distribution(state.next_parameters().unsqueeze(-1)), state


def _check_options(space: Space, filters: int, blocks: int, stages: int, dropout: float) -> None:
    if min(filters, blocks, stages) < 1:
        raise UsageError(f"filters={filters}, blocks={blocks}, stages={stages}; wanted at least 1 each")
    if not 0 <= dropout < 1:
        raise UsageError(f"dropout={dropout}; wanted 0 <= dropout < 1")
    _, height, width = space.shape
    _check_sizes(height or 0, width or 0, stages)


def _check_sizes(height: int, width: int, stages: int) -> None:
    """Sizes must halve exactly stages − 1 times."""
    divisor = 2 ** (stages - 1)
    if height % divisor or width % divisor:
        fitting = max(s for s in range(1, stages) if height % 2 ** (s - 1) == 0 and width % 2 ** (s - 1) == 0)
        raise UsageError(
            f"images of {height} x {width} with stages={stages}: both sizes must be divisible by {divisor}; "
            f"set stages={fitting}, or crop or pad the images"
        )
