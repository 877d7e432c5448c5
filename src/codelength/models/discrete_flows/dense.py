"""The networks of an integer flow: small DenseNets, made so that they can be run in integers.

    h_0 = x,        h_i = [h_{i−1}, f(conv_3x3(h_{i−1}))],        i = 1 .. layers

Inputs are levels around zero, features are rectified and everything that a window reads has zero point 0, so that a layer in integers is one exact
product and one requantization whose lower bound is the rectifier (`models/quantized/idf.py`).

Reference: DenseNet, arXiv:1608.06993; in integer flows: arXiv:1905.07376, section 4. Their layers have a 1x1 convolution before each
3x3; ours do not.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codelength.errors import UsageError

ACTIVATIONS = ("relu", "swish")


class DenseTrunk(nn.Module):
    """x and the features of all layers, concatenated.

    Args:
        inputs: Channels of x.
        growth: Channels that a layer adds.
        layers: Number of layers.
        activation: "relu", or "swish" of IDF++.
        group_norm: Normalize each layer's sums over groups of its channels, as IDF++ does. The mean and variance are those of one datum, so
            that data do not depend on their batch.
        bias: Whether the convolutions have biases.
    """

    def __init__(
        self,
        inputs: int,
        growth: int,
        layers: int,
        *,
        activation: str = "relu",
        group_norm: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise UsageError(f"activation={activation!r}; wanted {' or '.join(ACTIVATIONS)}")
        self.activation = activation
        self.inputs, self.outputs = inputs, inputs + growth * layers
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs + i * growth, growth, 3, padding=1, bias=bias) for i in range(layers)
        )
        groups = math.gcd(4, growth)
        self.norms = nn.ModuleList(nn.GroupNorm(groups, growth) for _ in range(layers if group_norm else 0))
        for conv in self.convs:
            assert isinstance(conv, nn.Conv2d)
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        parts = [x]
        for index, conv in enumerate(self.convs):
            sums = conv(torch.cat(parts, dim=1))
            if len(self.norms):
                sums = self.norms[index](sums)
            parts.append(F.relu(sums) if self.activation == "relu" else F.silu(sums))
        return torch.cat(parts, dim=1)


class Translation(nn.Module):
    """The translation of a coupling, before rounding, in levels; zero at first.

    Args:
        inputs, outputs: Channels that condition, and channels that are translated.
        growth, layers, activation, group_norm: Of the trunk.
        rezero: Multiply the result by a learned number that starts at 0, after a last layer that does not (IDF++); without it the last
            layer starts at 0.
        scale: Levels that an output of 1 stands for.
        bias: Whether layers have biases. Without them nothing moves where all that the network sees is 0.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        growth: int,
        layers: int,
        *,
        scale: float,
        rezero: bool = False,
        activation: str = "relu",
        group_norm: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.trunk = DenseTrunk(inputs, growth, layers, activation=activation, group_norm=group_norm, bias=bias)
        self.out = nn.Conv2d(self.trunk.outputs, outputs, 1, bias=bias)
        self.gain = nn.Parameter(torch.zeros(())) if rezero else None
        if not rezero:
            nn.init.zeros_(self.out.weight)
        if self.out.bias is not None:
            nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W), levels around zero on the scale of the networks, to levels (B, outputs, H, W), real."""
        out: Tensor = self.out(self.trunk(x)) * self.scale
        return out if self.gain is None else out * self.gain
