"""The network of Glow's couplings: three convolutions, and its two passes written out for kernels.

Layers this small take as long for the bookkeeping between operations as for their products: `scaled` gives the weights of
all three in one call, `forward` and `backward` keep hidden units in place and mask gradients in the pass that sums them.
`transforms.fused_step` makes one differentiable operation of them and the coupling.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codelength import native
from codelength.nn.scaled_conv import ScaledConv, scaled_weights, scaled_weights_backward
from codelength.nn.weight_norm import fits

BLOCK = 64
"""Channels that a thread takes at a time: BLOCK of kernels.c."""


class CouplingNetwork(nn.Module):
    """3x3, 1x1 and 3x3 convolutions with relu between; the last starts at zero, so that the coupling starts as a constant.

    Args:
        channels: Channels of the input.
        outputs: Channels of the output.
        filters: Hidden channels.
        classes: Number of classes whose label shifts the first hidden units; 0 for none.

    Reference: Glow, arXiv:1807.03039, section 3.3 and released code.
    """

    def __init__(self, channels: int, outputs: int, filters: int, classes: int = 0) -> None:
        super().__init__()
        self.first = ScaledConv(channels, filters, 3)
        self.second = ScaledConv(filters, filters, 1)
        self.last = ScaledConv(filters, outputs, 3, gain=0.0, rate=3.0)
        self.of_class = nn.Parameter(torch.zeros(classes, filters)) if classes else None

    def _shift(self, h: Tensor, label: Tensor | None) -> Tensor:
        return h if self.of_class is None else h + self.of_class[label][:, :, None, None]

    def forward(self, x: Tensor, *, label: Tensor | None = None) -> Tensor:
        """(B, channels, H, W) to (B, outputs, H, W)."""
        h = self._shift(self.first(x.contiguous(memory_format=torch.channels_last)), label)
        out: Tensor = self.last(F.relu(self.second(F.relu(h))))
        return out

    def initialize(self, x: Tensor, *, label: Tensor | None = None) -> None:
        """Set the scales of the hidden layers from a batch."""
        self.second.initialize(F.relu(self._shift(self.first.initialize(x), label)))

    @property
    def layers(self) -> tuple[ScaledConv, ScaledConv, ScaledConv]:
        """The three convolutions."""
        return self.first, self.second, self.last

    def is_plain(self) -> bool:
        """Whether `forward` and `backward` of this module do what the network does: no classes, parameters that kernels take."""
        return self.of_class is None and all(fits(p) and p.is_contiguous() for p in self.parameters())

    def flat(self) -> tuple[Tensor, ...]:
        """Weight, bias and log_scale of the three layers, in a row."""
        return tuple(p for layer in self.layers for p in (layer.weight, layer.bias, layer.log_scale))

    @property
    def rates(self) -> tuple[float, ...]:
        """How fast each layer's scale acts."""
        return tuple(layer.rate for layer in self.layers)


Kept = tuple[Tensor, ...]
"""What the backward pass needs: input, hidden units of both layers, and scaled weights of the three."""


def forward(x: Tensor, parameters: Sequence[Tensor], rates: Sequence[float]) -> tuple[Tensor, Kept]:
    """The network by parameters in a row.

    Args:
        x: (B, channels, H, W), float32 or bfloat16, channels-last; the type of all products.
        parameters: As `CouplingNetwork.flat` gives them.
        rates: How fast the three scales act.

    Returns:
        (B, outputs, H, W) of the type of x, channels-last, and what `backward` needs.
    """
    (w1, b1), (w2, b2), (w3, b3) = scaled_weights(parameters, rates, x.dtype)
    first = torch.conv2d(x, w1, b1, padding=1).relu_()
    rows = _rows(first)
    second = torch.addmm(b2, rows, w2.flatten(1).t()).relu_()
    image = second.view(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2)
    out = torch.conv2d(image, w3, b3, padding=1)
    return out.contiguous(memory_format=torch.channels_last), (x, rows, image, w1, w2, w3)


def backward(
    by_out: Tensor, kept: Kept, parameters: Sequence[Tensor], rates: Sequence[float]
) -> tuple[Tensor, list[Tensor]]:
    """Gradients of the input and of the parameters in a row."""
    x, rows, image, w1, w2, w3 = kept
    by_second, by_w3, by_b3 = _convolution(by_out, image, w3, bias=True)
    by_second = _rows(by_second)
    by_b2 = _relu_backward(_rows(image), by_second)
    by_w2 = by_second.t() @ rows
    by_first = by_second @ w2.flatten(1)
    by_b1 = _relu_backward(rows, by_first)
    by_image = by_first.view(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2)
    by_x, by_w1, _ = _convolution(by_image, x, w1, bias=False)
    pairs = [(by_w1, by_b1), (by_w2, by_b2), (by_w3, by_b3)]
    return by_x, scaled_weights_backward(pairs, parameters, rates, x.dtype)


def _rows(image: Tensor) -> Tensor:
    """(B, C, H, W), channels-last, as (B H W, C)."""
    return image.permute(0, 2, 3, 1).reshape(-1, image.shape[1])


def _convolution(grad: Tensor, x: Tensor, weight: Tensor, bias: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a 3x3 convolution's input, weight and bias."""
    outputs: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        grad, x, weight, [weight.shape[0]], [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, True, bias]
    )
    return outputs


class _Call(ctypes.Structure):
    """`relu_call` of kernels.c."""

    _fields_ = [
        *[(name, ctypes.c_void_p) for name in ("h", "grad", "total")],
        ("rows", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("dtype", ctypes.c_int32),
    ]


def _relu_backward(h: Tensor, grad: Tensor) -> Tensor:
    """Set `grad` to zero where relu's output h, (rows, channels), is; returns its sum over rows, float32."""
    rows, channels = h.shape
    total = h.new_empty(channels, dtype=torch.float32)
    call = _Call(h.data_ptr(), grad.data_ptr(), total.data_ptr(), rows, channels, int(h.dtype == torch.bfloat16))
    library: Any = native.library()

    def work(first: int, last: int) -> int:
        code: int = library.codelength_relu_backward(ctypes.byref(call), ctypes.c_int64(first), ctypes.c_int64(last))
        return code

    native.parallel(work, -(-channels // BLOCK), h.numel())
    return total
