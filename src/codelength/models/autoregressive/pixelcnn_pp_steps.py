"""PixelCNN++ pixel by pixel, without computing anything twice.

The down stream of a row needs only the rows above, so it is computed for the whole row when the row begins, together with
all it gives to the right stream. The right stream then takes one pixel a step. A lower resolution is due in every second
row and column only. All steps together cost about as much as one parallel pass.

Reference: the caching of "Fast Generation for Convolutional Autoregressive Models", arXiv:1704.06001, here with whole
rows at a time and with strided layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from codelength.nn.activations import Feature
from codelength.nn.cached_conv import CachedBlock, CachedGrow, CachedShrink, activate_last, kernel_rows
from codelength.nn.gated_residual import GatedResidual

if TYPE_CHECKING:
    from torch import nn

    from codelength.models.autoregressive.pixelcnn_pp import PixelCNNPP, Stage


class StageSteps:
    """The caches of one resolution, and inside them those of the lower one.

    Args:
        stage: The layers.
        n: Number of images.
        width: Row length at this resolution.
        label: Classes of the images, (n,), where the model is conditioned.
    """

    def __init__(self, stage: Stage, n: int, width: int, label: Tensor | None) -> None:
        def cached(blocks: nn.ModuleList) -> list[CachedBlock]:
            return [CachedBlock(block, n, width, label) for block in blocks if isinstance(block, GatedResidual)]

        self.encode_down, self.encode_right = cached(stage.encode_down), cached(stage.encode_right)
        self.decode_down, self.decode_right = cached(stage.decode_down), cached(stage.decode_right)
        self.inner: StageSteps | None = None
        if stage.inner is not None:
            self.inner = StageSteps(stage.inner, n, width // 2, label)
            self.shrink_down = CachedShrink(stage.shrink_down, n, width)
            self.shrink_right = CachedShrink(stage.shrink_right, n, width)
            self.grow_down, self.grow_right = CachedGrow(stage.grow_down), CachedGrow(stage.grow_right)
            self.lower_down = stage.grow_down.bias.new_zeros(n, width // 2, len(stage.grow_down.bias))
            self.lower_right = torch.zeros_like(self.lower_down)

    def start_row(self, row: int, down: Feature) -> Feature:
        """The down stream of a row, (n, W, F), and the right stream's share of it."""
        shortcuts = [down]
        for down_block, right_block in zip(self.encode_down, self.encode_right, strict=True):
            down = down_block.row(down)
            right_block.start_row(down.active)
            shortcuts.append(down)
        if self.inner is None:
            shortcuts.pop()
        else:
            self.shrink_down.put_row(row, down.value)
            if row % 2 == 0:
                lower = self.inner.start_row(row // 2, activate_last(self.shrink_down.row()))
                self.lower_down.copy_(lower.value)
            down = activate_last(self.grow_down.row(self.lower_down, row))
        for down_block, right_block in zip(self.decode_down, self.decode_right, strict=True):
            down = down_block.row(down, shortcuts.pop().active)
            right_block.start_row(down.active)
        return down

    def pixel(self, row: int, column: int, right: Feature) -> Feature:
        """The right stream at one pixel, (n, F)."""
        shortcuts = [right]
        for block in self.encode_right:
            right = block.pixel(column, right)
            shortcuts.append(right)
        if self.inner is None:
            shortcuts.pop()
        else:
            self.shrink_right.put_pixel(row, column, right.value)
            if row % 2 == 0 and column % 2 == 0:
                lower = self.inner.pixel(row // 2, column // 2, activate_last(self.shrink_right.pixel(column)))
                self.lower_right[:, column // 2] = lower.value
            right = activate_last(self.grow_right.pixel(self.lower_right[:, column // 2], row, column))
        for block in self.decode_right:
            right = block.pixel(column, right, shortcuts.pop().active)
        return right


class PixelCNNPPState:
    """The state of one pass over n images in raster order; changed in place.

    Args:
        model: The model. Later changes of its parameters do not reach the state.
        n: Number of images.
        label: Classes of the images, (n,), where the model is conditioned.
    """

    def __init__(self, model: PixelCNNPP, n: int, label: Tensor | None) -> None:
        channels, self.height, self.width = model.space.sizes
        self.place, self.channels = 0, channels
        # The image with its channel of ones: pixel (i, j) lies at (i + 2, j + 1), zeros around.
        self.image = model.head.bias.new_zeros(n, self.height + 2, self.width + 2, channels + 1)
        self.image[:, 2:, 1:-1, -1] = 1
        self.down_weight = kernel_rows(model.first_down).flatten(0, 2)
        self.above_weight = kernel_rows(model.first_above).flatten(0, 2)
        self.left_weight = kernel_rows(model.first_left).flatten(0, 2)
        self.down_bias = model.first_down.bias
        self.right_bias = model.first_above.bias + model.first_left.bias
        self.above = self.image.new_zeros(n, self.width, len(self.right_bias))
        self.head_weight, self.head_bias = model.head.weight().flatten(1), model.head.bias
        self.ladder = StageSteps(model.ladder, n, self.width, label)

    def put(self, scaled: Tensor) -> None:
        """Write the values at the place before, (n, C), on [−1, 1]."""
        row, column = divmod(self.place - 1, self.width)
        self.image[:, row + 2, column + 1, : self.channels] = scaled

    def next_parameters(self) -> Tensor:
        """The network's outputs at the next place, (n, P)."""
        row, column = divmod(self.place, self.width)
        if column == 0:
            self._start_row(row)
        left = self.image[:, row + 1 : row + 3, column].flatten(1)  # rows i − 1 and i of column j − 1
        right = self.ladder.pixel(
            row, column, activate_last(torch.addmm(self.above[:, column], left, self.left_weight))
        )
        self.place += 1
        # elu is the first half of concat_elu.
        return F.linear(right.active[:, : right.value.shape[1]], self.head_weight, self.head_bias)

    def _start_row(self, row: int) -> None:
        # unfold gives (n, rows, W, C + 1, 3): three neighbouring columns at every column.
        above = self.image[:, row : row + 2].unfold(2, 3, 1).permute(0, 2, 1, 4, 3)  # (n, W, 2, 3, C + 1)
        down = F.linear(above.flatten(2), self.down_weight.t(), self.down_bias)
        torch.add(above[:, :, 1].flatten(2) @ self.above_weight, self.right_bias, out=self.above)
        self.ladder.start_row(row, activate_last(down))
