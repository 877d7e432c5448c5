"""Weight-normalized convolutions whose kernel is shifted, so that an output never looks ahead; no masks.

With `before` = (top, left), output (i, j) of a convolution of stride s reads rows s i − top .. s i − top + kh − 1 and
columns s j − left .. s j − left + kw − 1; what lies outside is zero. PixelCNN++ uses two kinds:

    down        (2, 3) before (1, 1): the row above and its own, both neighbours
    down-right  (2, 2) before (1, 1): the row above and its own, the left neighbour and itself

Weights are w = g v / |v|, the norm over each output's inputs (arXiv:1602.07868).

Reference: PixelCNN++, arXiv:1701.05517, figure 2 and released code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codelength.nn.weight_norm import normalized_weight


class WeightNormed(nn.Module):
    """Direction v, gain g and bias b of a layer with weight normalization.

    Args:
        shape: Shape of the weight.
        output_dim: Dim of the weight that counts outputs.
        init_scale: Gain at the start.
    """

    def __init__(self, shape: tuple[int, ...], output_dim: int, init_scale: float) -> None:
        super().__init__()
        self.output_dim, self.init_scale = output_dim, init_scale
        self.direction = nn.Parameter(torch.randn(shape) * 0.05)
        self.gain = nn.Parameter(torch.full((shape[output_dim],), init_scale))
        self.bias = nn.Parameter(torch.zeros(shape[output_dim]))

    def weight(self) -> Tensor:
        """g v / |v|, of the shape of v; under autocast on a CPU in the type that convolutions take."""
        return normalized_weight(self.direction, self.gain, self.output_dim)


def normalize_outputs(layers: Iterable[WeightNormed], forward: Callable[[], Any]) -> None:
    """Data-dependent initialization: set gains and biases so that each layer's outputs have mean 0 and its scale.

    Args:
        layers: Layers to set, in any order.
        forward: Runs the model on a batch; each layer is set when it is reached, so that the next ones see its result.

    Reference: weight normalization, arXiv:1602.07868, eqs. (5)-(6).
    """

    @torch.no_grad()
    def hook(layer: nn.Module, inputs: tuple[Any, ...], out: Tensor) -> Tensor:
        assert isinstance(layer, WeightNormed)
        dims = (0, *range(2, out.dim()))
        deviation, mean = torch.std_mean(out, dim=dims, correction=0)
        # An output that does not move (a lower resolution of tiny images sees nothing yet) keeps its gain, and none is
        # raised more than tenfold: gains in a row multiply, and would bring round-off to the surface.
        scale = torch.where(deviation > 1e-3, layer.init_scale / deviation.clamp(min=layer.init_scale / 10), 1.0)
        layer.gain.mul_(scale)
        layer.bias.sub_(mean).mul_(scale)
        shape = (1, -1, *[1] * (out.dim() - 2))
        return (out - mean.view(shape)) * scale.view(shape)

    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        forward()
    finally:
        for handle in handles:
            handle.remove()


class ShiftedConv(WeightNormed):
    """Convolution with `before` zeros above and to the left; sizes shrink by the stride and not by the kernel.

    Args:
        inputs, outputs: Channels.
        kernel: (kh, kw).
        before: Rows above and columns to the left of the output's own that the kernel reaches.
        stride: 1 or 2; sizes must be divisible by it.
        init_scale: Gain at the start.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int],
        before: tuple[int, int],
        *,
        stride: int = 1,
        init_scale: float = 1.0,
    ) -> None:
        super().__init__((outputs, inputs, *kernel), 0, init_scale)
        self.before, self.stride = before, stride

    def forward(self, x: Tensor, *, crop: bool = True) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride); without `crop` with what lies beyond them too."""
        # Padding is symmetric in one operation with the convolution; what it adds below and to the right is cut off,
        # which costs one row and column more but no copy of the input.
        out = F.conv2d(x, self.weight(), self.bias, self.stride, padding=self.before)
        return out[:, :, : x.shape[2] // self.stride, : x.shape[3] // self.stride] if crop else out


class ShiftedTransposedConv(WeightNormed):
    """Transposed convolution of stride 2: doubles the sizes without looking ahead.

    With the kernel (2, 3) an output column between two inputs reads both; with (2, 2) every output reads the one
    input of its 2 x 2 block.
    """

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int]) -> None:
        super().__init__((inputs, outputs, *kernel), 1, 1.0)
        self.extra = kernel[1] - 2

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, 2 H, 2 W)."""
        padding = (0, self.extra)
        return F.conv_transpose2d(x, self.weight(), self.bias, 2, padding=padding, output_padding=padding)


class PointwiseLinear(WeightNormed):
    """The same linear map at every site ("network in network"); several inputs are read as if side by side."""

    def __init__(self, inputs: int, outputs: int, *, init_scale: float = 1.0) -> None:
        super().__init__((outputs, inputs, 1, 1), 0, init_scale)

    def forward(self, *inputs: Tensor) -> Tensor:
        """(B, inputs_i, H, W) each to (B, outputs, H, W)."""
        out, *others = self.parts(*inputs)
        for part in others:
            out = out + part
        return out

    def parts(self, *inputs: Tensor) -> list[Tensor]:
        """What each input adds to the result; the first has the bias."""
        weights = self.weight().split([x.shape[1] for x in inputs], dim=1)
        biases = [self.bias, *[None] * (len(inputs) - 1)]
        return [F.conv2d(x, weight, bias) for x, weight, bias in zip(inputs, weights, biases, strict=True)]
