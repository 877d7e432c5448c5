"""Shifted convolutions computed a row or a pixel at a time, from what was computed before.

Rows are (n, W, F): matrix products over contiguous slices serve n images at once. A convolution keeps one padded row
of its input. At the start of a row that row is the one above, and its share of the output is computed for the whole
row; then it is overwritten by the row itself, all at once (`row`) or pixel by pixel (`pixel`).

Weights are normalized once, when the cache is made. Everything is preallocated and changed in place.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from codelength.nn.activations import Feature
from codelength.nn.gated_residual import GatedResidual
from codelength.nn.shifted_conv import ShiftedConv, ShiftedTransposedConv


def activate_last(value: Tensor) -> Feature:
    """The feature of a value whose channels are its last dim, (..., F), outside of autograd."""
    return Feature(value, F.elu_(torch.cat([value, -value], dim=-1)))


def kernel_rows(conv: ShiftedConv) -> Tensor:
    """The kernel as matrices: (kh, kw, inputs, outputs), contiguous."""
    return conv.weight().permute(2, 3, 1, 0).contiguous()


class CachedConv:
    """A `ShiftedConv` of stride 1 with kernel (2, kw) before (1, 1).

    Args:
        conv: The layer.
        n: Number of images.
        width: Row length W.
        extra_bias: Added to the bias of each image, (n, outputs).
    """

    def __init__(self, conv: ShiftedConv, n: int, width: int, extra_bias: Tensor | None = None) -> None:
        kernel = kernel_rows(conv)
        self.above, self.current = kernel[0], kernel[1]
        self.flat_current = self.current.flatten(0, 1)
        self.bias = conv.bias if extra_bias is None else (conv.bias + extra_bias)[:, None]
        self.columns, inputs, outputs = self.above.shape
        self.n, self.width = n, width
        padded = width + self.columns - 1
        self.input = kernel.new_zeros(n, padded, inputs)  # column j lies at j + 1
        self.partial = kernel.new_zeros(n, padded, outputs)  # column j lies at j; the last ones hold no output

    def start_row(self) -> Tensor:
        """The share of the row above, and the bias: (n, W, outputs), kept for this row."""
        self.partial.copy_(self.bias)
        self._add_row(self.above)
        return self.partial[:, : self.width]

    def row(self, x: Tensor) -> Tensor:
        """The output of a whole row, (n, W, inputs) to (n, W, outputs); it holds until the next row."""
        self.start_row()
        self.input[:, 1 : self.width + 1] = x
        self._add_row(self.current)
        return self.partial[:, : self.width]

    def pixel(self, column: int, x: Tensor) -> Tensor:
        """The output at one column of the row started, (n, inputs) to (n, outputs), for a kernel of two columns."""
        self.input[:, column + 1] = x
        window = self.input[:, column : column + 2].flatten(1)  # a view: the two columns lie side by side
        return torch.addmm(self.partial[:, column], window, self.flat_current)

    def _add_row(self, weights: Tensor) -> None:
        """Add the product of the kept row with one row of the kernel.

        All images are one long row: an output reads the columns right after its own place, and the places whose
        window would run into the next image are the ones that hold no output.
        """
        source, target = self.input.flatten(0, 1), self.partial.flatten(0, 1)
        length = len(source) - self.columns + 1
        for k in range(self.columns):
            target[:length].addmm_(source[k : k + length], weights[k])


class CachedShrink:
    """A `ShiftedConv` of stride 2 with kernel (2, kw) before (1, 1): due in even rows and columns.

    Args as for `CachedConv`; `width` is that of the input.
    """

    def __init__(self, conv: ShiftedConv, n: int, width: int) -> None:
        kernel = kernel_rows(conv)
        self.weight, self.bias, self.columns, self.width = kernel.flatten(0, 2), conv.bias, kernel.shape[1], width
        # The odd row above, and the even row.
        self.rows = kernel.new_zeros(2, n, width + self.columns - 1, kernel.shape[2])

    def put_row(self, row: int, x: Tensor) -> None:
        """Keep a row, (n, W, inputs)."""
        self.rows[1 - row % 2, :, 1 : self.width + 1] = x

    def put_pixel(self, row: int, column: int, x: Tensor) -> None:
        """Keep a pixel, (n, inputs)."""
        self.rows[1 - row % 2, :, column + 1] = x

    def row(self) -> Tensor:
        """The output of an even row, (n, W / 2, outputs)."""
        columns = [self.rows[r, :, k : k + self.width : 2] for r in range(2) for k in range(self.columns)]
        return F.linear(torch.cat(columns, dim=-1), self.weight.t(), self.bias)

    def pixel(self, column: int) -> Tensor:
        """The output at an even row and column, (n, outputs)."""
        window = self.rows[:, :, column : column + self.columns].movedim(0, 1).flatten(1)
        return torch.addmm(self.bias, window, self.weight)


class CachedGrow:
    """A `ShiftedTransposedConv`: a row or pixel of the lower resolution serves two rows and columns."""

    def __init__(self, conv: ShiftedTransposedConv) -> None:
        self.kernel, self.bias = conv.weight().permute(2, 3, 0, 1).contiguous(), conv.bias

    def row(self, lower: Tensor, row: int) -> Tensor:
        """Row `row` for a kernel of three columns: (n, W / 2, inputs) to (n, W, outputs)."""
        kernel = self.kernel[row % 2]
        even = F.linear(lower, kernel[1].t(), self.bias)
        odd = F.linear(lower, kernel[2].t(), self.bias)
        odd[:, :-1] += lower[:, 1:] @ kernel[0]
        return torch.stack([even, odd], dim=2).flatten(1, 2)

    def pixel(self, lower: Tensor, row: int, column: int) -> Tensor:
        """Pixel (row, column) for a kernel of two columns: (n, inputs) to (n, outputs)."""
        return torch.addmm(self.bias, lower, self.kernel[row % 2, column % 2])


class CachedBlock:
    """A `GatedResidual` by rows or by pixels.

    Args:
        block: The block.
        n: Number of images.
        width: Row length W.
        label: Classes of the images, (n,), where it is conditioned.
    """

    def __init__(self, block: GatedResidual, n: int, width: int, label: Tensor | None) -> None:
        class_bias = None if block.class_bias is None else block.class_bias[label]
        self.conv_in = CachedConv(block.conv_in, n, width)
        self.conv_out = CachedConv(block.conv_out, n, width, class_bias)
        self.aux: tuple[Tensor, ...] = ()
        if block.aux is not None:
            self.conv_in.bias = self.conv_in.bias + block.aux.bias
            weight = block.aux.weight().flatten(1).t().contiguous()
            self.aux = weight.split(block.conv_in.direction.shape[1])

    def row(self, x: Feature, *aux: Tensor) -> Feature:
        """A whole row of the block, (n, W, F), given the row's auxiliary features, (n, W, 2F)."""
        c = self.conv_in.row(x.active)
        for a, weight in zip(aux, self.aux, strict=True):
            c = c + a @ weight
        return _gate(x.value, self.conv_out.row(activate_last(c).active))

    def start_row(self, aux: Tensor) -> None:
        """Begin a row, given its first auxiliary feature (the other stream), (n, W, 2F)."""
        self.conv_in.start_row().add_(aux @ self.aux[0])
        self.conv_out.start_row()

    def pixel(self, column: int, x: Feature, *aux: Tensor) -> Feature:
        """One pixel of the block, (n, F), given its further auxiliary features, (n, 2F)."""
        c = self.conv_in.pixel(column, x.active)
        for a, weight in zip(aux, self.aux[1:], strict=True):
            c.addmm_(a, weight)
        return _gate(x.value, self.conv_out.pixel(column, activate_last(c).active))


def _gate(x: Tensor, gated: Tensor) -> Feature:
    a, b = gated.chunk(2, dim=-1)
    return activate_last(torch.addcmul(x, a, torch.sigmoid(b)))
