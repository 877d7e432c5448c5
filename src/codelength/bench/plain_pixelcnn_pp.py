"""PixelCNN++ and its loss written plainly: the same network, one PyTorch operation after the other, in float32.

What the speed of `models.autoregressive.pixelcnn_pp` and `functional.logistic_mixture` is measured against. Zero padding is
an operation, every activation is computed where it is read, weights are normalized by the definition, dropout is PyTorch's, the
loss is eq. (2) of the paper with the released code's guards: log(max(σ(b) − σ(a), 1e-12)), and the density times the bin where
the mass is small.

Reference: PixelCNN++, arXiv:1701.05517.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codelength.models.autoregressive.pixelcnn_pp import PixelCNNPP, Stage
from codelength.nn.gated_residual import GatedResidual
from codelength.nn.shifted_conv import PointwiseLinear, ShiftedConv, ShiftedTransposedConv


def plain_mixture_log_mass(outputs: Tensor, value: Tensor, components: int) -> Tensor:
    """log P of 256-level RGB sites, coupled; arguments and result as of `logistic_mixture_log_mass`."""
    k = components
    batch, _, height, width = outputs.shape
    logits = outputs[:, :k]
    rest = outputs[:, k:].reshape(batch, k, 9, height, width)
    mean, log_scale, coefficients = rest[:, :, :3], rest[:, :, 3:6].clamp(min=-7.0), torch.tanh(rest[:, :, 6:])
    x = (value.to(outputs.dtype) / 127.5 - 1).unsqueeze(1).expand(batch, k, 3, height, width)
    green = mean[:, :, 1] + coefficients[:, :, 0] * x[:, :, 0]
    blue = mean[:, :, 2] + coefficients[:, :, 1] * x[:, :, 0] + coefficients[:, :, 2] * x[:, :, 1]
    mean = torch.stack([mean[:, :, 0], green, blue], dim=2)
    centered, inverse = x - mean, torch.exp(-log_scale)
    upper, lower, middle = inverse * (centered + 1 / 255), inverse * (centered - 1 / 255), inverse * centered
    mass = torch.sigmoid(upper) - torch.sigmoid(lower)
    density = middle - log_scale - 2 * F.softplus(middle) - math.log(127.5)
    inner = torch.where(mass > 1e-5, torch.log(mass.clamp(min=1e-12)), density)
    log_mass = torch.where(x < -0.999, upper - F.softplus(upper), torch.where(x > 0.999, -F.softplus(lower), inner))
    return torch.logsumexp(log_mass.sum(2) + F.log_softmax(logits, dim=1), dim=1)


def _weight(layer: Any) -> Tensor:
    dims = [dim for dim in range(layer.direction.dim()) if dim != layer.output_dim]
    shape = [-1 if dim == layer.output_dim else 1 for dim in range(layer.direction.dim())]
    norm = layer.direction.square().sum(dims, keepdim=True).sqrt()
    return layer.gain.view(shape) * layer.direction / norm


def _conv(layer: ShiftedConv, x: Tensor) -> Tensor:
    (kh, kw), (top, left) = layer.direction.shape[2:], layer.before
    padded = F.pad(x, (left, kw - 1 - left, top, kh - 1 - top))
    return F.conv2d(padded, _weight(layer), layer.bias, stride=layer.stride)


def _grow(layer: ShiftedTransposedConv, x: Tensor) -> Tensor:
    padding = (0, layer.extra)
    return F.conv_transpose2d(x, _weight(layer), layer.bias, 2, padding=padding, output_padding=padding)


def _pointwise(layer: PointwiseLinear, x: Tensor) -> Tensor:
    return F.conv2d(x, _weight(layer), layer.bias)


def _concat_elu(x: Tensor) -> Tensor:
    return F.elu(torch.cat([x, -x], dim=1))


class PlainPixelCNNPP(nn.Module):
    """A copy of a PixelCNN++'s parameters, and its equations.

    Args:
        model: The model; colour images of 256 levels, without classes.
    """

    def __init__(self, model: PixelCNNPP, components: int) -> None:
        super().__init__()
        self.model, self.components = copy.deepcopy(model), components

    def forward(self, levels: Tensor) -> Tensor:
        """log P of each image, (B, 3, H, W) to (B,), nats."""
        model = self.model
        x = levels.float() / 127.5 - 1
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        down = _conv(model.first_down, x)
        right = _conv(model.first_above, x) + _conv(model.first_left, x)
        _, right = self._stage(model.ladder, down, right)
        outputs = _pointwise(model.head, F.elu(right))
        return plain_mixture_log_mass(outputs, levels, self.components).flatten(1).sum(1)

    def _block(self, block: GatedResidual, x: Tensor, *aux: Tensor) -> Tensor:
        c = _conv(block.conv_in, _concat_elu(x))
        if block.aux is not None:
            c = c + _pointwise(block.aux, torch.cat([_concat_elu(a) for a in aux], dim=1))
        a, b = _conv(block.conv_out, F.dropout(_concat_elu(c), block.dropout, self.training)).chunk(2, dim=1)
        return x + a * torch.sigmoid(b)

    def _stage(self, stage: Stage, down: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        shortcuts = [(down, right)]
        for d, r in zip(stage.encode_down, stage.encode_right, strict=True):
            down = self._block(d, down)  # type: ignore[arg-type]
            right = self._block(r, right, down)  # type: ignore[arg-type]
            shortcuts.append((down, right))
        if stage.inner is None:
            shortcuts.pop()
        else:
            down, right = self._stage(stage.inner, _conv(stage.shrink_down, down), _conv(stage.shrink_right, right))
            down, right = _grow(stage.grow_down, down), _grow(stage.grow_right, right)
        for d, r in zip(stage.decode_down, stage.decode_right, strict=True):
            by_down, by_right = shortcuts.pop()
            down = self._block(d, down, by_down)  # type: ignore[arg-type]
            right = self._block(r, right, down, by_right)  # type: ignore[arg-type]
        return down, right
